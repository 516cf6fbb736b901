//! Traces: one for each invocation, from its caller's `traceparent` through waits, attempts and the callback,
//! whichever workers have it in hand.
//!
//! ```text
//!  the caller's span, or none: then the first wait is the root
//!  ├─ wait Q ───────┐                                              arrival to first delivery
//!  ├─ process Q     ├──┐  a delivery, and what became of it
//!  │  └─ POST /function/f ┐  an attempt: what the function gets as its parent
//!  ├─ wait Q              ├───────────┐                            parked to due
//!  ├─ process Q                       ├─────┐
//!  │  ├─ POST /function/f             ├──┐
//!  │  └─ POST callback                   ├──┐
//!  └─ …
//! ```
//!
//! Without a caller's span a trace's ids are made of the invocation's identity, so that they need no place in
//! the messages. A program that was built without the feature `otel` has no exporter, and so never makes a
//! [`Tracer`] that traces; `config` refuses the settings that ask for one.

mod delivery;
#[cfg_attr(not(feature = "otel"), path = "trace/no_export.rs")]
mod export;
mod parent;
mod pipeline;
mod span;

pub use delivery::{Post, Trace, Tracer};

use crate::retry::judge::Cause;

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The call succeeded.
    Completed,
    /// The callback arrived.
    Delivered,
    /// It is parked, to be tried again.
    Parked,
    /// It was given up.
    Dead(Cause),
    /// It was handed back, for another worker or another time.
    HandedBack,
    /// The worker that had it before died, and it is parked again for that.
    Interrupted,
    /// It had been settled before.
    Settled,
    /// What follows from it fits into no message.
    Unstorable,
    /// Its lease was lost.
    Lost,
}

impl Fate {
    /// The word for it in a span.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Delivered => "delivered",
            Self::Parked => "parked",
            Self::Dead(_) => "dead_letter",
            Self::HandedBack => "handed_back",
            Self::Interrupted => "interrupted",
            Self::Settled => "settled_before",
            Self::Unstorable => "unstorable",
            Self::Lost => "lost",
        }
    }

    /// Whether something went wrong that is not tried again as a matter of course, and what.
    #[must_use]
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::Dead(cause) => Some(cause.as_str()),
            Self::Interrupted | Self::Unstorable | Self::Lost => Some(self.as_str()),
            Self::Completed | Self::Delivered | Self::Parked | Self::HandedBack | Self::Settled => None,
        }
    }
}
