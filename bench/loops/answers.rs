//! What the function answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A day is longer than any run.
const DAY: u64 = 24 * 3600;

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub enum Answers {
    /// All calls succeed.
    #[default]
    Success,
    /// The first call of each message fails, and the next succeeds, which has to wait so many seconds.
    SuccessAfter(u64),
    /// All calls fail, and the next has to wait longer than the run lasts.
    Failure,
}

impl Answers {
    /// Calls of each message in a run.
    pub fn calls(self) -> usize {
        if matches!(self, Self::SuccessAfter(_)) { 2 } else { 1 }
    }

    /// How many of them fail.
    pub fn failures(self) -> usize {
        usize::from(!matches!(self, Self::Success))
    }

    /// Whether all messages are parked at the end of the run.
    pub fn park(self) -> bool {
        matches!(self, Self::Failure)
    }

    /// From a call that failed to the next, in seconds.
    fn seconds(self) -> Option<u64> {
        match self {
            Self::Success => None,
            Self::SuccessAfter(seconds) => Some(seconds),
            Self::Failure => Some(DAY),
        }
    }

    /// The same in nanoseconds.
    pub fn wait(self) -> u64 {
        let wait = Duration::from_secs(self.seconds().unwrap_or_default());
        u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The same as a setting of the worker.
    pub fn setting(self) -> Option<String> {
        self.seconds().map(|seconds| format!("{seconds}s"))
    }
}
