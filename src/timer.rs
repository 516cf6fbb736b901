//! Where a clone waits for its due time, and what wakes it. With *schedules* the broker does so itself; with *levels* a clone
//! lies in a level of similar delays until a mover ([`crate::levels`]) brings it to the due ones. A timer only decides
//! subjects and headers; the due time stands in the message, so that a lost wake-up costs nothing but time.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::{
    advice::Version,
    broker::Record,
    config::RetryTimer,
    envelope::rfc3339,
    header,
    names::{self, Id, Names},
};

/// The highest level. Its delays have no upper bound.
pub const HIGHEST: u32 = 16;
/// From this version on schedules are used unasked.
pub const SCHEDULES: Version = (2, 14, 0);
/// From this version on schedules are used on request: older ones lose some on recovery.
const SCHEDULES_ON_REQUEST: Version = (2, 12, 9);

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

/// Whether the stream of retries is to allow schedules: the operator's choice, and a server that fires them.
///
/// # Errors
/// Where the operator asks for schedules and the server has none.
pub fn wants_schedules(setting: RetryTimer, server: Version) -> Result<bool, String> {
    match setting {
        RetryTimer::Levels => Ok(false),
        RetryTimer::Auto => Ok(server >= SCHEDULES),
        RetryTimer::Schedules if server >= SCHEDULES_ON_REQUEST => Ok(true),
        RetryTimer::Schedules => {
            let (major, minor, patch) = server;
            Err(format!("retry_timer=schedules needs NATS 2.12.9 or newer, and this is {major}.{minor}.{patch}"))
        }
    }
}

/// The timer, and why it is this one. `allowed`: whether the stream's configuration came back with schedules allowed, for
/// old servers take the field without a word and fire nothing.
///
/// # Errors
/// Where the operator asks for schedules and the stream has none.
pub fn choose(setting: RetryTimer, server: Version, allowed: bool) -> Result<(Timer, &'static str), String> {
    match setting {
        RetryTimer::Levels => Ok((Timer::Levels, "retry_timer=levels")),
        RetryTimer::Schedules if allowed => Ok((Timer::Schedules, "retry_timer=schedules")),
        RetryTimer::Schedules => Err("retry_timer=schedules, but the stream does not allow message schedules".to_owned()),
        RetryTimer::Auto if server < SCHEDULES => {
            Ok((Timer::Levels, "this server is older than 2.14 and does not fire schedules reliably"))
        }
        RetryTimer::Auto if allowed => Ok((Timer::Schedules, "this server fires schedules itself")),
        RetryTimer::Auto => Ok((Timer::Levels, "the stream of retries does not allow message schedules; one with a size cannot")),
    }
}

impl Timer {
    /// The place of clone `id.hop` of a call to `function` (a token) that is due at `due`. What is due now needs no timer.
    pub fn place(self, names: &Names, function: &str, id: Id, hop: u64, due: SystemTime, now: SystemTime) -> Place {
        let target = names.due(function, id, hop);
        let wait = due.duration_since(now).unwrap_or_default();
        if wait.is_zero() {
            return Place { subject: target, headers: Vec::new() };
        }
        match self {
            Self::Schedules => Place {
                subject: names.holder(function, id, hop),
                headers: vec![("Nats-Schedule", format!("@at {}", rfc3339(due))), ("Nats-Schedule-Target", target)],
            },
            Self::Levels => Place { subject: names.level(level(wait), function, id, hop), headers: Vec::new() },
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
pub fn due_after(now: SystemTime, wait: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + wait.min(CENTURY)
}

/// When what is parked with these headers is due, if they say so.
pub fn due_in(headers: &HeaderMap) -> Option<SystemTime> {
    header::said(headers, names::DUE).and_then(|due| humantime::parse_rfc3339(due).ok())
}

/// How long it has still to wait. Without a due time that can be read it is tried rather than kept.
pub fn remaining(headers: &HeaderMap, now: SystemTime) -> Duration {
    due_in(headers).and_then(|due| due.duration_since(now).ok()).unwrap_or_default()
}

/// What is to be published so that the message parked as `sequence` is due; `None` if none is parked on this subject. Its id
/// is the clone's own, so that one which is brought twice counts once. No header of the broker's goes along.
pub fn brought_due(names: &Names, subject: &str, sequence: u64, headers: &HeaderMap, payload: Bytes) -> Option<Record> {
    let target = names.target_of(subject)?;
    let id = match Names::clone_of(&target) {
        Some((id, hop)) => format!("{id}.{hop}.due"),
        None => format!("{sequence}.due"),
    };
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        if !names::is_brokers(name.as_ref()) {
            values.iter().for_each(|value| header::copy(&mut kept, name, value));
        }
    }
    Some(Record { stream: names.retries.clone(), subject: target, id, headers: kept, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_delays_of_up_to_twice_its_shortest() {
        for (milliseconds, expected) in
            [(1, 0), (1_999, 0), (2_000, 1), (3_999, 1), (4_000, 2), (60_000, 5), (65_535_999, 15), (65_536_000, 16), (u64::MAX, 16)]
        {
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
    fn the_timer_is_what_is_asked_for_and_what_the_server_has() {
        use RetryTimer::{Auto, Levels, Schedules};
        // The setting, the server, whether the stream allows schedules once asked to; the timer, or nothing but an error.
        for (setting, server, allows, expected) in [
            (Auto, (2, 9, 10), false, Some(Timer::Levels)),
            (Auto, (2, 13, 9), true, Some(Timer::Levels)),
            (Auto, (2, 14, 0), true, Some(Timer::Schedules)),
            (Auto, (2, 15, 2), false, Some(Timer::Levels)),
            (Schedules, (2, 12, 8), true, None),
            (Schedules, (2, 12, 9), true, Some(Timer::Schedules)),
            (Schedules, (2, 15, 2), false, None),
            (Levels, (2, 15, 2), true, Some(Timer::Levels)),
            (Levels, (2, 9, 10), false, Some(Timer::Levels)),
        ] {
            let chosen = wants_schedules(setting, server).and_then(|_| choose(setting, server, allows));
            assert_eq!(chosen.ok().map(|(timer, _)| timer), expected, "{setting:?} {server:?} {allows}");
        }
        assert_eq!((wants_schedules(Levels, (2, 15, 2)), wants_schedules(Auto, (2, 13, 0))), (Ok(false), Ok(false)));
    }

    #[test]
    fn what_is_due_carries_its_story_and_nothing_of_the_brokers() {
        let names = Names::new("q", "q");
        let mut headers = HeaderMap::new();
        for (name, value) in [("Nats-Msg-Id", "7-10.1"), ("nats-schedule", "@at x"), ("Queue-Worker-Hop", "1"), ("X", "a"), ("X", "b")] {
            header::add(&mut headers, name, value);
        }
        let record = brought_due(&names, "q-retries.l3.f.7-10.1", 9, &headers, "payload".into()).unwrap();
        assert_eq!((record.subject.as_str(), record.id.as_str()), ("q-retries.due.f.7-10.1", "7-10.1.due"));
        assert_eq!((record.headers.len(), record.headers.get_all("X").count()), (2, 2));
        // Two of them on one subject are not the same message.
        assert_eq!(brought_due(&names, "q-retries.l3.odd", 9, &headers, Bytes::new()).unwrap().id, "9.due");
        assert!(brought_due(&names, "q-retries.due.f.7-10.1", 9, &headers, Bytes::new()).is_none());
    }

    #[test]
    fn a_due_time_that_cannot_be_read_has_come() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        for (due, expected) in [("1970-01-01T00:01:45.5Z", 5_500), ("1970-01-01T00:01:40Z", 0), ("1970-01-01T00:00:00Z", 0), ("soon", 0)] {
            let mut headers = HeaderMap::new();
            header::put(&mut headers, names::DUE, due);
            assert_eq!(remaining(&headers, now), Duration::from_millis(expected), "{due}");
        }
        assert_eq!(remaining(&HeaderMap::new(), now), Duration::ZERO);
    }
}
