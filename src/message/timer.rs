//! Where a clone waits for its due time, and what wakes it. With *schedules* the broker does so itself; with
//! *levels* a clone lies in a level of similar delays until a promoter ([`crate::upkeep::levels`]) brings it
//! to the due ones. A timer only decides subjects and headers; the due time stands in the message, so that a
//! lost wake-up costs nothing but time.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::message::record::Record;
use crate::message::{
    envelope::rfc3339,
    header,
    names::{self, Id, Names},
};

/// The highest level. Its delays have no upper bound.
pub(crate) const HIGHEST: u32 = 16;
/// What brings a parked retry back at its due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Message schedules of the broker.
    Schedules,
    /// A consumer for each power of two of seconds, whose messages are handed back until they are due.
    Levels,
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
    /// The place of clone `id.generation` of a call to `function` (a token) that is due at `due`. A clone
    /// that is due now needs no timer.
    pub fn place(
        self,
        names: &Names,
        function: &str,
        id: Id,
        generation: u64,
        due: SystemTime,
        now: SystemTime,
    ) -> Place {
        let target = names.due(function, id, generation);
        let wait = due.duration_since(now).unwrap_or_default();
        if wait.is_zero() {
            return Place { subject: target, headers: Vec::new() };
        }
        match self {
            Self::Schedules => Place {
                subject: names.scheduled(function, id, generation),
                headers: vec![
                    (names::SCHEDULE, format!("@at {}", rfc3339(due))),
                    (names::SCHEDULE_TARGET, target),
                ],
            },
            Self::Levels => {
                Place { subject: names.level(level(wait), function, id, generation), headers: Vec::new() }
            }
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Schedules => "schedules",
            Self::Levels => "levels",
        })
    }
}

/// The level of a delay: 0 below two seconds, else the logarithm of its seconds.
fn level(wait: Duration) -> u32 {
    wait.as_secs().checked_ilog2().unwrap_or(0).min(HIGHEST)
}

/// `now` and a wait make a due time; a wait beyond all calendars is cut.
pub(crate) fn due_after(now: SystemTime, wait: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + wait.min(CENTURY)
}

/// When what is parked with these headers is due, if they say so.
pub(crate) fn due_in(headers: &HeaderMap) -> Option<SystemTime> {
    header::said(headers, names::DUE).and_then(|due| humantime::parse_rfc3339(due).ok())
}

/// How long it has still to wait. Without a due time that can be read it is tried rather than kept.
pub(crate) fn remaining(headers: &HeaderMap, now: SystemTime) -> Duration {
    due_in(headers).and_then(|due| due.duration_since(now).ok()).unwrap_or_default()
}

/// The record to be published so that the message parked as `sequence` is due; `None` if none is parked on
/// this subject. Its id is the clone's own, so that one which is brought twice counts once. No header of
/// the broker's goes along.
pub(crate) fn promoted(
    names: &Names,
    subject: &str,
    sequence: u64,
    headers: &HeaderMap,
    payload: Bytes,
) -> Option<Record> {
    let target = names.target_of(subject)?;
    let id = match Names::clone_of(&target) {
        Some((id, generation)) => format!("{}.due", id.of_clone(generation)),
        None => format!("{sequence}.due"),
    };
    Some(Record {
        stream: names.retries.clone(),
        subject: target,
        id,
        headers: header::own(headers),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_delays_of_up_to_twice_its_shortest() {
        for (milliseconds, expected) in [
            (1, 0),
            (1_999, 0),
            (2_000, 1),
            (3_999, 1),
            (4_000, 2),
            (60_000, 5),
            (65_535_999, 15),
            (65_536_000, 16),
            (u64::MAX, 16),
        ] {
            assert_eq!(level(Duration::from_millis(milliseconds)), expected, "{milliseconds} ms");
        }
    }

    #[test]
    fn a_clone_waits_in_its_level_without_a_word_to_the_broker() {
        let (names, id) = (Names::new("q", "q"), Id { sequence: 7, stored: 36 });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let place = |wait| Timer::Levels.place(&names, "f", id, 1, now + Duration::from_secs(wait), now);
        assert_eq!(place(10), Place { subject: "q-retries.l3.f.7-10.1".into(), headers: Vec::new() });
        assert_eq!(place(0).subject, "q-retries.due.f.7-10.1");
    }

    #[test]
    fn what_is_due_carries_its_story_and_nothing_of_the_brokers() {
        let names = Names::new("q", "q");
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", "7-10.1"),
            ("nats-schedule", "@at x"),
            ("Queue-Worker-Hop", "1"),
            ("X", "a"),
            ("X", "b"),
        ] {
            header::add(&mut headers, name, value);
        }
        let record = promoted(&names, "q-retries.l3.f.7-10.1", 9, &headers, "payload".into()).unwrap();
        assert_eq!((record.subject.as_str(), record.id.as_str()), ("q-retries.due.f.7-10.1", "7-10.1.due"));
        assert_eq!((record.headers.len(), record.headers.get_all("X").count()), (2, 2));
        // Two of them on one subject are not the same message.
        assert_eq!(promoted(&names, "q-retries.l3.odd", 9, &headers, Bytes::new()).unwrap().id, "9.due");
        assert!(promoted(&names, "q-retries.due.f.7-10.1", 9, &headers, Bytes::new()).is_none());
    }

    #[test]
    fn a_due_time_that_cannot_be_read_has_come() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (due, expected) in [
            ("1970-01-01T00:01:45.5Z", 5_500),
            ("1970-01-01T00:01:40Z", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("soon", 0),
        ] {
            let mut headers = HeaderMap::new();
            header::put(&mut headers, names::DUE, due);
            assert_eq!(remaining(&headers, now), Duration::from_millis(expected), "{due}");
        }
        assert_eq!(remaining(&HeaderMap::new(), now), Duration::ZERO);
    }
}
