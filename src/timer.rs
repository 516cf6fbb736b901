//! Where a clone waits for its due time, and what wakes it. One timer so far: message schedules, which the broker itself
//! fires (NATS 2.14 and newer). A timer only decides subjects and headers; the due time stands in the message.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::{
    envelope::rfc3339,
    names::{Id, Names},
};

/// What brings a parked retry back at its due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Message schedules of the broker.
    Schedules,
}

/// Where to publish a clone, and the headers that its timer wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The subject.
    pub subject: String,
    /// Headers for the broker.
    pub headers: Vec<(&'static str, String)>,
}

impl Timer {
    /// The place of clone `id.hop` of a call to `function` (a token) that is due at `due`. What is due now needs no timer.
    pub fn place(self, names: &Names, function: &str, id: Id, hop: u64, due: SystemTime, now: SystemTime) -> Place {
        let target = names.due(function, id, hop);
        if due <= now {
            return Place { subject: target, headers: Vec::new() };
        }
        match self {
            Self::Schedules => Place {
                subject: names.holder(function, id, hop),
                headers: vec![("Nats-Schedule", format!("@at {}", rfc3339(due))), ("Nats-Schedule-Target", target)],
            },
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedules => "schedules",
        })
    }
}

/// `now` and a wait make a due time; a wait beyond all calendars is cut.
pub fn due_after(now: SystemTime, wait: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + wait.min(CENTURY)
}
