//! A message as a consumer delivered it, and the lease under which it may be worked on.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::{broker::consumer::Doubtful, message::arrival::Arrival};

/// How long a consumer waits for an acknowledgement. Somebody may change it while deliveries are out, and it
/// then holds for them, too. Cheap to clone; the clones agree.
#[derive(Debug, Clone)]
pub struct AckWait(watch::Receiver<Duration>);

impl AckWait {
    /// As it is now.
    pub fn now(&self) -> Duration {
        *self.0.borrow()
    }

    /// Returns when it was changed since this was cloned or asked last.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl From<Duration> for AckWait {
    /// One that never changes.
    fn from(ack_wait: Duration) -> Self {
        Self(watch::channel(ack_wait).1)
    }
}

impl From<&watch::Sender<Duration>> for AckWait {
    fn from(ack_wait: &watch::Sender<Duration>) -> Self {
        Self(ack_wait.subscribe())
    }
}

/// A message as a consumer delivered it.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The message.
    pub arrival: Arrival,
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// How many more wait behind it.
    pub pending: u64,
    /// Where its acknowledgement goes.
    pub reply: String,
    /// When this process asked for it: the broker's ack clock started no earlier.
    pub asked: Instant,
    /// How long the broker waits for an acknowledgement before it delivers the message again.
    pub ack_wait: AckWait,
    /// Whether it may have been settled before, and the broker has forgotten that.
    pub doubtful: Doubtful,
}

#[cfg(test)]
impl Pulled {
    /// The message of [`Arrival::example`], just asked for.
    pub fn example(headers: async_nats::HeaderMap, payload: impl Into<bytes::Bytes>) -> Self {
        Self {
            arrival: Arrival::example(headers, payload),
            delivered: 1,
            pending: 0,
            reply: String::new(),
            asked: Instant::now(),
            ack_wait: Duration::from_secs(60).into(),
            doubtful: Doubtful::No,
        }
    }
}
