//! What a server's version and a queue's settings are known to cost, said once when the worker is ready. Pure: facts in,
//! lines out. Where a row is from a release's notes or an issue of nats-server, its number stands beside it.

/// A server's version: major, minor, patch.
pub type Version = (u64, u64, u64);

/// Reads a version as servers write theirs, like `2.15.0-dev`. What cannot be read is older than everything.
pub fn version(text: &str) -> Version {
    let release = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    (next(), next(), next())
}

/// What is known of the broker and the queue's streams.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The server's version.
    pub server: Version,
    /// Whether the stream of retries allows message schedules.
    pub schedules: bool,
    /// Whether the stream of retries refuses what exceeds a limit.
    pub discard_new: bool,
    /// The fewest replicas of any of the queue's streams.
    pub replicas: u64,
}

/// A line for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Whether messages are known to have been lost like this; else it is good to know.
    pub grave: bool,
    /// What, and what helps.
    pub text: &'static str,
}

/// What is to be said about these facts.
pub fn advice(facts: &Facts) -> Vec<Advice> {
    let known = facts.server > (0, 0, 0);
    let within = |from: Version, to: Version| (from..=to).contains(&facts.server);
    let before = |version: Version| known && facts.server < version;
    let rows = [
        (
            before((2, 10, 0)),
            true,
            "NATS before 2.10 is no longer maintained: after a crash it may forget which messages were acknowledged (they stay in its \
             streams, or are delivered again), and it tells no time, so that the workers' clocks have to agree; update it",
        ),
        (
            within((2, 10, 20), (2, 10, 22)),
            true,
            "NATS 2.10.20 to 2.10.22 can lose a whole stream when the server is killed; update to 2.10.23 or newer",
        ),
        // nats-server #7593, #8085: schedules that were lost or damaged on recovery.
        (
            facts.schedules && (before((2, 12, 9)) || within((2, 13, 0), (2, 13, u64::MAX))),
            true,
            "message schedules of NATS before 2.12.9 and of 2.13 can be lost when the server restarts; update to 2.14 or newer",
        ),
        // nats-server #8240: refused from 2.12.10 and 2.14.2 on.
        (
            facts.schedules && facts.discard_new,
            true,
            "the stream of retries has schedules and discard=new, which newer servers refuse to run; set its discard to old",
        ),
        (
            facts.replicas <= 1 && !before((2, 10, 0)),
            false,
            "the streams have one replica: a power failure can lose what NATS accepted in the last two minutes, unless its configuration says \
             jetstream { sync_interval: always }",
        ),
        (
            facts.replicas <= 1 && before((2, 10, 0)),
            false,
            "the streams have one replica: a power failure can lose what NATS accepted in the last two minutes",
        ),
    ];
    rows.into_iter().filter(|(holds, ..)| *holds).map(|(_, grave, text)| Advice { grave, text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts { server: (2, 15, 2), schedules: true, discard_new: false, replicas: 3 };

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
        assert!(!advice(&Facts { replicas: 1, ..WELL })[0].grave);
        // A server that does not know the setting refuses to start with it.
        let old = advice(&Facts { server: (2, 9, 25), schedules: false, replicas: 1, ..WELL });
        assert!(old.iter().all(|line| !line.text.contains("sync_interval")), "{old:?}");
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
        for (text, expected) in
            [("2.9.10", (2, 9, 10)), ("v2.15.0-dev", (2, 15, 0)), ("2.12.0-RC.4", (2, 12, 0)), ("2.14", (2, 14, 0)), ("?", (0, 0, 0))]
        {
            assert_eq!(version(text), expected, "{text}");
        }
    }
}
