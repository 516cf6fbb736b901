//! A message as it lies in a stream.

use std::{fmt, sync::Arc, time::SystemTime};

use async_nats::HeaderMap;
use bytes::Bytes;

/// A message as it arrived in a stream.
#[derive(Clone)]
pub struct Arrival {
    /// The subject it was published on.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
    /// The stream that it lies in.
    pub stream: Arc<str>,
    /// Its sequence there.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored: SystemTime,
}

impl fmt::Debug for Arrival {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Arrival");
        shown.field("subject", &self.subject).field("stream", &self.stream).field("sequence", &self.sequence);
        shown.field("bytes", &self.payload.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Arrival {
    /// The seventh message of the stream `q`.
    pub fn example(headers: HeaderMap, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: "q".into(),
            headers,
            payload: payload.into(),
            stream: "q".into(),
            sequence: 7,
            stored: SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(36),
        }
    }
}
