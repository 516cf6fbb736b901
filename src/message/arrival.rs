//! A message as it comes from a consumer.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

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
#[derive(Clone)]
pub struct Arrival {
    /// The subject it was published on.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// The stream that it lies in.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored: SystemTime,
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
    pub doubtful: bool,
}

impl fmt::Debug for Arrival {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Arrival");
        shown.field("subject", &self.subject).field("stream", &self.stream).field("sequence", &self.sequence);
        shown.field("delivered", &self.delivered).field("bytes", &self.payload.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Arrival {
    /// The seventh message of the stream `q`, just asked for.
    pub fn example(headers: HeaderMap, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: "q".into(),
            headers,
            payload: payload.into(),
            stream: "q".into(),
            sequence: 7,
            stored: SystemTime::UNIX_EPOCH + Duration::from_nanos(36),
            delivered: 1,
            pending: 0,
            reply: String::new(),
            asked: Instant::now(),
            ack_wait: Duration::from_secs(60).into(),
            doubtful: false,
        }
    }
}
