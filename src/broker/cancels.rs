//! The stream of what was cancelled. Every worker of the queue reads it, and has all of it in memory.

use std::time::SystemTime;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, if_stream},
        seam::{Broker, BrokerError},
    },
    message::{call::Cancel, names::Names},
};

/// What was cancelled in a queue.
#[derive(Debug, Clone)]
pub struct Cancels {
    jetstream: JetStream,
    stream: String,
    subject: String,
    subjects: String,
}

/// A word that a call is cancelled, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What it says.
    pub cancel: Cancel,
    /// When it was stored.
    pub at: SystemTime,
}

impl Cancels {
    /// Those of this queue.
    pub fn new(jetstream: &JetStream, names: &Names) -> Self {
        Self {
            jetstream: jetstream.clone(),
            stream: names.cancels(),
            subject: names.cancel(),
            subjects: names.cancels_subjects(),
        }
    }

    /// The broker's time.
    pub fn now(&self) -> SystemTime {
        self.jetstream.now()
    }

    /// Stores that a call is cancelled, and returns the sequence.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn add(&self, cancel: &Cancel) -> Result<u64, BrokerError> {
        let payload = serde_json::to_vec(cancel).unwrap_or_default();
        self.jetstream.append(&self.stream, &self.subject, payload.into()).await
    }

    /// Those behind the sequence `seen`, and the last sequence; `None` where there are none.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn behind(&self, seen: u64) -> Result<Option<(Vec<Mark>, u64)>, ApiError> {
        let last = if_stream(self.jetstream.last_stored(&self.stream, &self.subjects).await)?.flatten();
        let Some(last) = last.filter(|last| last.sequence != seen) else { return Ok(None) };
        // A stream that was made anew begins anew.
        let mut next = if last.sequence < seen { 1 } else { seen + 1 };
        let mut marks = Vec::new();
        while let Some(stored) = self.jetstream.next_stored(&self.stream, &self.subjects, next).await? {
            next = stored.sequence + 1;
            if let Ok(cancel) = serde_json::from_slice(&stored.payload) {
                marks.push(Mark { cancel, at: stored.time });
            }
        }
        Ok(Some((marks, next - 1)))
    }
}
