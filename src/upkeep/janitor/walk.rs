//! How far a round of the janitor goes, and what it makes of a scheduled message. Pure.

use std::time::{Duration, SystemTime};

use super::Scheduled;
use crate::message::timer::{due_in, remaining};

/// How many scheduled messages one round looks at; the next goes on behind them.
const ROUND: usize = 200;
/// How many of these are the oldest of all, whatever the last round saw: one that never fires is among them
/// in the end.
const OLDEST: usize = 50;
/// The most bytes that one round reads, half of them of the oldest.
const BYTES: usize = 8 << 20;
/// A scheduled message that has a schedule may be this late: then it did not fire.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// One round's way through the scheduled messages: the oldest first, then on from where the last round
/// stopped.
#[derive(Debug)]
pub(super) struct Walk {
    next: u64,
    /// Where the last round stopped, until this one goes on there.
    resume: Option<u64>,
    seen: usize,
    bytes: usize,
}

impl Walk {
    /// A round after one that stopped at `resume`.
    pub(super) fn new(resume: u64) -> Self {
        Self { next: 1, resume: Some(resume), seen: 0, bytes: 0 }
    }

    /// Where the next scheduled message is looked for; `None` where the round has seen enough.
    pub(super) fn ask(&mut self) -> Option<u64> {
        if self.seen == ROUND || self.bytes > BYTES {
            return None;
        }
        if (self.seen == OLDEST || self.bytes > BYTES / 2)
            && let Some(resume) = self.resume.take()
        {
            self.next = resume.max(self.next);
        }
        Some(self.next)
    }

    /// Notes a scheduled message, and goes on behind it.
    pub(super) fn saw(&mut self, message: &Scheduled) {
        self.next = message.sequence + 1;
        self.seen += 1;
        self.bytes += message.payload.len();
    }

    /// Where the next round goes on.
    pub(super) fn stopped(&self) -> u64 {
        self.next
    }
}

/// The state of a scheduled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// It should long have come due.
    pub overdue: bool,
    /// Nobody else wakes it, and its time has come.
    pub(crate) asleep: bool,
}

impl State {
    /// Of `scheduled message` at `now`, in a stream with schedules or without.
    pub(super) fn of(message: &Scheduled, schedules: bool, now: SystemTime) -> Self {
        // Without a time of either kind its time never comes.
        let overdue = due_in(&message.headers)
            .or(message.wakes)
            .map_or(schedules && !message.scheduled, |due| due + GRACE < now);
        // An unreadable message waits for nothing.
        let asleep = if schedules {
            message.scheduled && (overdue || message.unreadable)
        } else {
            message.unreadable || remaining(&message.headers, now).is_zero()
        };
        Self { overdue, asleep }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;
    use crate::message::{envelope::rfc3339, header, names};

    fn message(sequence: u64, due: Option<&str>, scheduled: bool, bytes: usize) -> Scheduled {
        let mut headers = HeaderMap::new();
        due.into_iter().for_each(|due| header::put(&mut headers, names::DUE, due));
        Scheduled {
            subject: "q-retries.at.f.7-10.1".into(),
            sequence,
            headers,
            payload: vec![0; bytes].into(),
            scheduled,
            wakes: None,
            unreadable: false,
        }
    }

    #[test]
    fn a_scheduled_message_is_moved_when_nobody_else_wakes_it_and_only_then() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let due = |late: i64| {
            Some(rfc3339(now - Duration::from_secs(1_000) + Duration::from_secs((1_000 - late) as u64)))
        };
        // How late it is, whether it has a schedule, whether the stream has any; overdue, and to be moved.
        for (late, scheduled, schedules, expected) in [
            (61, true, true, (true, true)),
            (60, true, true, (false, false)),
            (-5, true, true, (false, false)),
            (61, false, true, (true, false)),
            (61, true, false, (true, true)),
            (0, true, false, (false, true)),
            (-1, true, false, (false, false)),
            (-1, false, false, (false, false)),
        ] {
            let State { overdue, asleep } =
                State::of(&message(1, due(late).as_deref(), scheduled, 0), schedules, now);
            assert_eq!((overdue, asleep), expected, "{late} {scheduled} {schedules}");
        }
        let woken = |late: u64| Scheduled {
            wakes: Some(now - Duration::from_secs(late)),
            ..message(1, Some("soon"), true, 0)
        };
        assert_eq!([60, 61].map(|late| State::of(&woken(late), true, now).asleep), [false, true]);
        let unreadable =
            |scheduled| Scheduled { unreadable: true, ..message(1, due(-5).as_deref(), scheduled, 0) };
        for (scheduled, schedules, asleep) in
            [(true, true, true), (false, true, false), (true, false, true), (false, false, true)]
        {
            assert_eq!(
                State::of(&unreadable(scheduled), schedules, now).asleep,
                asleep,
                "{scheduled} {schedules}"
            );
        }
        for (due, scheduled, schedules, expected) in [
            (None, true, true, (false, false)),
            (None, false, true, (true, false)),
            (None, true, false, (false, true)),
            (Some("soon"), true, false, (false, true)),
        ] {
            let State { overdue, asleep } = State::of(&message(1, due, scheduled, 0), schedules, now);
            assert_eq!((overdue, asleep), expected, "{due:?} {scheduled} {schedules}");
        }
    }

    /// Which of `scheduled messages` a round looks at.
    fn walked(walk: &mut Walk, messages: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(from) = walk.ask() {
            let Some(sequence) = messages.clone().find(|sequence| *sequence >= from) else { break };
            walk.saw(&message(sequence, None, true, bytes));
            seen.push(sequence);
        }
        seen
    }

    #[test]
    fn each_round_looks_at_the_oldest_and_goes_on_where_the_last_one_stopped() {
        let mut first = Walk::new(1);
        assert_eq!(walked(&mut first, 1..=1_000, 0), (1..=200).collect::<Vec<_>>());
        let mut second = Walk::new(first.stopped());
        assert_eq!(walked(&mut second, 1..=1_000, 0), (1..=50).chain(201..=350).collect::<Vec<_>>());
        // It does not see the oldest twice.
        assert_eq!(walked(&mut Walk::new(20), 1..=60, 0), (1..=60).collect::<Vec<_>>());
    }

    #[test]
    fn a_round_over_large_messages_ends_sooner() {
        let mut walk = Walk::new(500);
        assert_eq!(walked(&mut walk, 1..=1_000, 1 << 20), [1, 2, 3, 4, 5, 500, 501, 502, 503]);
        assert_eq!(walk.stopped(), 504);
    }
}
