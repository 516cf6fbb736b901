//! The known costs of a server's version and of a queue's settings: said once when the worker is ready, and
//! by the doctor. Pure: facts in, lines out. Where a row is from a release's notes or an issue of
//! nats-server, its number stands beside it.

use std::time::Duration;

use crate::{broker::version::Version, text::duration::shown};

/// How much weight a line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// A promise holds, but less comes of it than one would think.
    Warn,
    /// A promise does not hold.
    Fail,
}

/// How often a server brings to its disk what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It does not say.
    Unknown,
    /// Before it acknowledges.
    Always,
    /// This often.
    Every(Duration),
}

/// How often servers do so unless told otherwise (`sync_interval`); before 2.10 there is no telling them.
pub(crate) const SYNC_INTERVAL: Duration = Duration::from_secs(120);

/// The known facts about the broker and the queue's streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// The server's version.
    pub server: Version,
    /// Whether the stream of retries allows message schedules.
    pub schedules: bool,
    /// Whether the stream of retries refuses what exceeds a limit.
    pub(crate) discard_new: bool,
    /// The fewest replicas of any of the queue's streams.
    pub replicas: u64,
    /// The laxest of the servers' ways with their disks.
    pub sync: Sync,
}

/// The subject of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The server's version.
    Version,
    /// The stream of retries, and how it treats more than it may hold.
    Discard,
    /// What a power failure takes.
    Power,
}

/// A line for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// How much it weighs.
    pub severity: Severity,
    /// Its subject.
    pub about: About,
    /// The line, with a remedy.
    pub text: String,
}

/// The lines that these facts call for.
pub(crate) fn advice(facts: &Facts) -> Vec<Advice> {
    let known = facts.server > (0, 0, 0);
    let within = |from: Version, to: Version| (from..=to).contains(&facts.server);
    let before = |version: Version| known && facts.server < version;
    let rows = [
        (
            before((2, 10, 0)),
            Severity::Warn,
            About::Version,
            "NATS before 2.10 is no longer maintained: after a crash it may forget which messages were \
             acknowledged (they stay in its streams, or are delivered again), and it tells no time, so that \
             the workers' clocks have to agree; update it",
        ),
        (
            within((2, 10, 20), (2, 10, 22)),
            Severity::Fail,
            About::Version,
            "NATS 2.10.20 to 2.10.22 can lose a whole stream when the server is killed; update to 2.10.23 or \
                newer",
        ),
        // nats-server #7593, #8085: schedules that were lost or damaged on recovery.
        (
            facts.schedules && (before((2, 12, 9)) || within((2, 13, 0), (2, 13, u64::MAX))),
            Severity::Fail,
            About::Version,
            "message schedules of NATS before 2.12.9 and of 2.13 can be lost when the server restarts; \
                update to 2.14 or newer",
        ),
        // nats-server #8240: refused from 2.12.10 and 2.14.2 on.
        (
            facts.schedules && facts.discard_new,
            Severity::Fail,
            About::Discard,
            "the stream of retries has schedules and discard=new, which newer servers refuse to run; set its \
                discard to old",
        ),
    ];
    let rows = rows.into_iter().filter(|(holds, ..)| *holds);
    let mut lines: Vec<_> =
        rows.map(|(_, severity, about, text)| Advice { severity, about, text: text.to_owned() }).collect();
    lines.extend(power(facts.sync, before((2, 10, 0))).filter(|_| facts.replicas <= 1));
    lines
}

/// The loss of streams with one replica in a power failure.
fn power(sync: Sync, old: bool) -> Option<Advice> {
    let (severity, interval) = match sync {
        Sync::Always => return None,
        Sync::Unknown => (Severity::Note, SYNC_INTERVAL),
        Sync::Every(interval) => (Severity::Warn, interval),
    };
    let remedy = match (old, sync) {
        // A server that does not know the setting refuses to start with it.
        (true, _) => "",
        (false, Sync::Unknown) => ", unless its configuration says jetstream { sync_interval: always }",
        (false, _) => "; set jetstream { sync_interval: always }",
    };
    let text = format!(
        "the streams have one replica: a power failure can lose what NATS accepted in the last {}{remedy}",
        shown(interval)
    );
    Some(Advice { severity, about: About::Power, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::version::version;

    const WELL: Facts =
        Facts { server: (2, 15, 2), schedules: true, discard_new: false, replicas: 3, sync: Sync::Unknown };

    /// The facts call for lines with these words, and for no others.
    fn check(facts: Facts, words: &[&str]) {
        let said = advice(&facts);
        assert_eq!(said.len(), words.len(), "{facts:?}: {said:?}");
        for (line, words) in said.iter().zip(words) {
            assert!(line.text.contains(words), "{facts:?}: {line:?} has no {words}");
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_is_wrong() {
        for server in [(2, 15, 2), (2, 14, 0), (2, 12, 9), (2, 11, 9), (2, 10, 29), (0, 0, 0)] {
            check(Facts { server, schedules: server >= (2, 12, 9), ..WELL }, &[]);
        }
    }

    #[test]
    fn one_replica_is_worth_a_line_and_no_alarm() {
        check(Facts { replicas: 1, ..WELL }, &["sync_interval: always"]);
        assert_eq!(advice(&Facts { replicas: 1, ..WELL })[0].severity, Severity::Note);
        // A server that does not know the setting refuses to start with it.
        let old = advice(&Facts { server: (2, 9, 25), schedules: false, replicas: 1, ..WELL });
        assert!(old.iter().all(|line| !line.text.contains("sync_interval")), "{old:?}");
    }

    #[test]
    fn what_is_seen_of_the_disk_is_said_in_place_of_the_default() {
        let one = Facts { replicas: 1, ..WELL };
        check(Facts { sync: Sync::Always, ..one }, &[]);
        check(
            Facts { sync: Sync::Every(Duration::from_secs(10)), ..one },
            &["in the last 10s; set jetstream"],
        );
        check(one, &["in the last 2m, unless"]);
        check(Facts { sync: Sync::Every(SYNC_INTERVAL), ..WELL }, &[]);
    }

    #[test]
    fn versions_that_lost_messages_are_named() {
        let plain = |server| Facts { server, schedules: false, ..WELL };
        check(plain((2, 9, 10)), &["before 2.10"]);
        for (patch, words) in [(19, [].as_slice()), (20, &["2.10.23"]), (22, &["2.10.23"]), (23, &[])] {
            check(plain((2, 10, patch)), words);
        }
        for server in [(2, 12, 8), (2, 13, 0), (2, 13, 4)] {
            check(plain(server), &[]);
            check(Facts { server, ..WELL }, &["before 2.12.9"]);
        }
        check(Facts { discard_new: true, ..WELL }, &["discard"]);
        check(Facts { discard_new: true, schedules: false, ..WELL }, &[]);
    }

    #[test]
    fn a_version_is_read_however_it_is_dressed() {
        for (text, expected) in [
            ("2.9.10", (2, 9, 10)),
            ("v2.15.0-dev", (2, 15, 0)),
            ("2.12.0-RC.4", (2, 12, 0)),
            ("2.14", (2, 14, 0)),
            ("?", (0, 0, 0)),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
