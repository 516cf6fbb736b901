//! A message as it goes into a stream.

use std::fmt;

use async_nats::HeaderMap;
use bytes::Bytes;

/// A message to be stored.
#[derive(Clone)]
pub struct Record {
    /// The stream that has to take it.
    pub stream: String,
    /// The subject in that stream.
    pub subject: String,
    /// Makes a repeated publish harmless.
    pub id: String,
    /// Its other headers.
    pub headers: HeaderMap,
    /// Its payload.
    pub payload: Bytes,
}

impl fmt::Debug for Record {
    /// Without what callers wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Record");
        shown
            .field("subject", &self.subject)
            .field("id", &self.id)
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}
