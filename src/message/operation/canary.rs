//! The letters of a redrive that go first.

use serde::{Deserialize, Serialize};

use crate::message::{letter::Letter, names::Id};

/// The most letters that a canary may be.
pub const MOST_CANARIES: u32 = 1_000;

/// The letters that go first, and what has to become of them before the others follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// How many they are.
    pub calls: u32,
    /// How many of a hundred have to succeed.
    pub require: u32,
    /// Those that were sent, or are being sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent>,
    /// The last sequence of the dead letters before that.
    #[serde(default)]
    pub before: u64,
    /// Whether enough of them succeeded.
    #[serde(default)]
    pub passed: bool,
}

/// A letter that was sent round again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The token of its function.
    pub function: String,
    /// `<stream>:<id>` of its invocation.
    pub origin: String,
    /// The generation that it began with.
    pub generation: u64,
    /// How often it was sent now.
    pub redrives: String,
    /// Whether it is a callback.
    #[serde(default)]
    pub callback: bool,
}

impl Canary {
    /// So many, of whom so many of a hundred, or all, have to succeed.
    pub fn first(calls: u32, require: Option<u32>) -> Self {
        Self { calls, require: require.unwrap_or(100), sent: Vec::new(), before: 0, passed: false }
    }

    /// The words that say how its canary came out, and whether the others may follow.
    pub fn judge(&self, succeeded: usize) -> (bool, String) {
        let sent = self.sent.len();
        let enough = succeeded.saturating_mul(100) >= sent.saturating_mul(self.require as usize);
        (enough, format!("of {sent} canaries {succeeded} succeeded, and {} % had to", self.require))
    }
}

impl Sent {
    /// Its identity.
    pub fn id(&self) -> Option<Id> {
        self.origin.rsplit_once(':')?.1.parse().ok()
    }

    /// Whether a letter tells of its end.
    pub fn is_ended_by(&self, letter: &Letter) -> bool {
        letter.original_id == self.origin
            && letter.redrives.as_deref() == Some(&self.redrives)
            && letter.is_callback == self.callback
    }
}
