//! A function's answer.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

use crate::retry::judge::Outcome;

/// What came of a call.
#[derive(Clone)]
pub struct Answer {
    /// What happened.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The answer's body, as far as it was to be kept.
    pub body: Bytes,
    /// Whether there was more than was kept.
    pub truncated: bool,
}

impl fmt::Debug for Answer {
    /// Without what the function wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown
            .field("outcome", &self.outcome)
            .field("took", &self.took)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
