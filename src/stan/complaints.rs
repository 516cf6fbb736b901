//! Warnings about refused messages, few enough that no publisher can fill the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::requests::{Reason, Refused};

/// The time between two warnings of a kind.
const QUIET: Duration = Duration::from_secs(60);

/// The last warning of each kind of refusal.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<HashMap<Reason, Instant>>);

impl Complaints {
    /// Logs a refusal: as a warning if it is the first of its kind for a minute, else at debug level.
    pub fn note(&self, refused: &Refused) {
        if self.is_due(refused.reason) {
            tracing::warn!(
                reason = refused.error,
                "NATS Streaming: a request was refused; more for this reason within a minute are logged at \
                    debug level"
            );
        } else {
            tracing::debug!(
                guid = refused.guid,
                reason = refused.error,
                "NATS Streaming: a request was refused"
            );
        }
    }

    fn is_due(&self, reason: Reason) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.get(&reason).is_none_or(|last| now - *last >= QUIET);
        if due {
            last.insert(reason, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_of_refusal_is_warned_about_once_a_minute() {
        let complaints = Complaints::default();
        assert!(complaints.is_due(Reason::Channel));
        assert!(!complaints.is_due(Reason::Channel));
        assert!(complaints.is_due(Reason::Guid));
        tokio::time::advance(QUIET).await;
        assert!(complaints.is_due(Reason::Channel));
    }
}
