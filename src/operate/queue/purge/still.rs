//! Keeps a queue still: no worker begins a call of it.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::insist::insist;
use crate::{
    broker::pauses::Record,
    message::{names::Names, pause::Pause},
    operate::{
        audit::by,
        desk::Desk,
        end::{Failure, cannot},
        queue::write,
    },
};

/// After so long every worker knows a pause.
const KNOWN: Duration = Duration::from_millis(1_500);
/// So often a purge says that it goes on, and after so long without a word it was killed.
const WORD: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(60);

/// A queue that is paused, by whomever.
pub(super) struct Still<'a> {
    desk: &'a Desk,
    names: &'a Names,
    record: Record,
    halt: &'a CancellationToken,
    /// The pause that this command makes where there is none.
    ours: Pause,
    /// The pause that was seen last; none before it has begun.
    seen: Option<Pause>,
}

impl<'a> Still<'a> {
    /// One that is still to begin. Where `halt` says so, nothing is waited for.
    pub fn new(desk: &'a Desk, names: &'a Names, halt: &'a CancellationToken) -> Self {
        let now = Some(desk.now());
        let reason = Some("queue purge is taking calls away".to_owned());
        let ours = Pause { since: now, by: by(), reason, purging: now };
        Self { desk, names, record: Record::new(&desk.jetstream, names), halt, ours, seen: None }
    }

    /// Pauses the queue, if it is not, and waits until all workers know it.
    ///
    /// # Errors
    /// Where another purge goes on, and see [`Failure`].
    pub async fn begin(&mut self) -> Result<(), Failure> {
        self.desk.ensure_operations(self.names).await?;
        let now = self.desk.now();
        let after = write(&self.record, |pauses| {
            let other = pauses.queue.take_if(|pause| !self.is_ours(pause) && pause.purging.is_some());
            if let Some(other) = other.filter(|other| age(other.purging, now) < SILENCE) {
                return Err(Failure::Conflict(format!(
                    "another purge of the queue {} goes on, by {}: try again when it has ended",
                    self.names.queue, other.by
                )));
            }
            pauses.queue.get_or_insert_with(|| self.ours.clone());
            Ok(())
        })
        .await?;
        self.know(after.queue.unwrap_or_default()).await;
        Ok(())
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.seen.is_some()
    }

    /// Sees to it that the queue is still paused.
    ///
    /// # Errors
    /// Where it is not, and see [`Failure`].
    pub async fn hold(&mut self) -> Result<(), Failure> {
        let (pauses, _) = self.record.read().await.map_err(cannot)?;
        let ours = |pause: &Pause| self.is_ours(pause);
        let Some(pause) = pauses.queue.filter(|pause| ours(pause) || pause.purging.is_none()) else {
            return Err(Failure::Cannot("the queue was resumed meanwhile".to_owned()));
        };
        let now = self.desk.now();
        if ours(&pause) && age(pause.purging, now) >= WORD {
            let said = write(&self.record, |pauses| {
                if let Some(pause) = pauses.queue.as_mut().filter(|pause| ours(pause)) {
                    pause.purging = Some(now);
                }
                Ok(())
            });
            said.await?;
        }
        if self.seen.as_ref().is_none_or(|seen| (&seen.by, seen.since) != (&pause.by, pause.since)) {
            // There may have been no pause between the two.
            self.know(pause).await;
        }
        Ok(())
    }

    /// Waits until every worker knows a pause.
    async fn know(&mut self, pause: Pause) {
        let rest = KNOWN.saturating_sub(age(pause.since, self.desk.now()));
        self.seen = Some(pause);
        tokio::select! {
            () = sleep(rest) => {}
            () = self.halt.cancelled() => {}
        }
    }

    fn is_ours(&self, pause: &Pause) -> bool {
        pause.purging.is_some() && (&pause.by, pause.since) == (&self.ours.by, self.ours.since)
    }

    /// Lets calls begin again, unless somebody else paused the queue.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn end(&self) -> Result<(), Failure> {
        let end = async || {
            let ended = write(&self.record, |pauses| {
                pauses.queue.take_if(|pause| self.is_ours(pause));
                Ok(())
            });
            ended.await.map(drop)
        };
        insist(end, |_| true).await.map_err(|failure| {
            Failure::Cannot(format!("the queue is still paused, and queue resume ends that: {failure}"))
        })
    }
}

/// How long ago something was.
fn age(since: Option<SystemTime>, now: SystemTime) -> Duration {
    since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default()
}
