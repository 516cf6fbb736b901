//! A dead letter as JSON has it. Its keys are promises.

use serde::Serialize;

use crate::message::{
    envelope::{redrives, rfc3339},
    letter::{Letter, Status},
};

/// A letter of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item<'l> {
    sequence: u64,
    queue: &'l str,
    function: Option<&'l str>,
    call_id: Option<&'l str>,
    cause: Option<&'l str>,
    attempts: u32,
    last_status: Option<&'l Status>,
    last_error: Option<&'l str>,
    failed_at: String,
    first_seen: String,
    original_id: &'l str,
    bytes: u64,
    redrives: u64,
}

impl<'l> Item<'l> {
    /// The item of a letter of this queue.
    pub fn of(queue: &'l str, letter: &'l Letter) -> Self {
        Self {
            sequence: letter.sequence,
            queue,
            function: letter.function.as_deref(),
            call_id: letter.call_id.as_deref(),
            cause: letter.cause.as_deref(),
            attempts: letter.attempts,
            last_status: letter.last_status.as_ref(),
            last_error: letter.last_error.as_deref(),
            failed_at: rfc3339(letter.failed_at),
            first_seen: rfc3339(letter.first_seen),
            original_id: &letter.original_id,
            bytes: letter.bytes,
            redrives: redrives(letter.redrives.as_deref()),
        }
    }
}
