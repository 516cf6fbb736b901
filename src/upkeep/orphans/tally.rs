//! The sum of the looks at a stream. Pure: no clock and no broker.
//!
//! Where a broker tells its consumers late of what it stored, or deletes late what was acknowledged, a look
//! finds too many. A rise has to be found twice, some seconds apart, and beyond what moves in half a second.
//! On a busy queue orphans are found all the same as soon as the consumer is through with what is older and
//! newer than they are.

use std::time::Duration;

/// The first finding of a rise is at least so old when the second one counts.
pub(super) const SETTLED: Duration = Duration::from_secs(5);
/// Messages that move in this time may be on its way between a stream and its consumers.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// The figures of one look at a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Messages stored at first.
    pub(super) before: u64,
    /// Messages stored at last.
    pub(super) after: u64,
    /// Messages that were stored in between, whatever became of them.
    pub(super) arrived: u64,
    /// Messages that are pending or wait for an acknowledgement, of all consumers.
    pub(super) known: u64,
    /// Messages that a schedule holds.
    pub(super) held: u64,
    /// All that ever arrived or was delivered.
    pub(super) moved: u64,
    /// Messages that are stored although the only consumer was through with them at the last look already.
    pub(super) passed: u64,
}

impl Reading {
    /// The fewest orphans that there can be, if nothing is on its way.
    pub(super) fn least(&self) -> u64 {
        self.after.saturating_sub(self.arrived).saturating_sub(self.known).saturating_sub(self.held)
    }

    /// The most that there can be. A schedule that fired in between is an arrival and one scheduled message
    /// less.
    fn most(&self) -> u64 {
        (self.before + 2 * self.arrived).saturating_sub(self.known).saturating_sub(self.held)
    }
}

/// The known orphans of a stream.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) shown: u64,
    /// A rise that was found once: when, and to what at least.
    suspected: Option<(Duration, u64)>,
    /// When the last look was, and all that had moved by then.
    last: Option<(Duration, u64)>,
}

impl Tally {
    /// Takes in a look that ended `now`, counted from any moment that stays the same.
    pub(super) fn add(&mut self, reading: &Reading, now: Duration) {
        let (least, most) = (self.least(reading, now), reading.most());
        self.last = Some((now, reading.moved));
        self.shown = self.shown.min(most);
        self.suspected = match self.suspected.map(|(at, suspected)| (at, suspected.min(most))) {
            _ if most <= self.shown => None,
            found if least <= self.shown => found,
            Some((at, suspected)) if now - at >= SETTLED => {
                self.shown = suspected.min(least);
                Some((now, least)).filter(|_| least > self.shown)
            }
            Some((at, suspected)) => Some((at, suspected.min(least))),
            None => Some((now, least)),
        };
    }

    fn least(&self, reading: &Reading, now: Duration) -> u64 {
        // Before the second look it is not known what moves.
        let Some((at, moved)) = self.last else { return reading.passed };
        let on_the_way = u128::from(reading.moved.saturating_sub(moved)) * ON_THE_WAY.as_millis()
            / (now - at).as_millis().max(1);
        reading.least().saturating_sub(u64::try_from(on_the_way).unwrap_or(u64::MAX)).max(reading.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these seconds, and what is shown after each.
    #[track_caller]
    fn check(looks: &[(u64, Reading, u64)]) {
        let mut tally = Tally::default();
        for (second, reading, shown) in looks {
            tally.add(reading, Duration::from_secs(*second));
            assert_eq!(tally.shown, *shown, "after {second} s of {looks:?}: {tally:?}");
        }
    }

    /// Nothing moves.
    fn calm(stored: u64, known: u64, held: u64) -> Reading {
        Reading { before: stored, after: stored, known, held, ..Reading::default() }
    }

    #[test]
    fn what_is_pending_or_awaited_or_held_is_no_orphan() {
        check(&[(0, calm(9, 4, 5), 0), (5, calm(9, 4, 5), 0), (10, calm(0, 0, 0), 0)]);
        // A consumer may await what is gone.
        check(&[(0, calm(3, 9, 0), 0), (5, calm(3, 9, 0), 0)]);
    }

    #[test]
    fn an_orphan_is_found_twice_and_gone_at_once() {
        let found = calm(10, 3, 5);
        check(&[(0, found, 0), (5, found, 0), (10, found, 2), (15, found, 2), (16, calm(8, 3, 5), 0)]);
        // A message seen but for a moment is no orphan, and of two findings the smaller one counts.
        check(&[
            (0, found, 0),
            (5, found, 0),
            (6, calm(8, 3, 5), 0),
            (11, found, 0),
            (14, found, 0),
            (15, calm(9, 3, 5), 0),
            (16, found, 1),
        ]);
        // A third one beside two known.
        check(&[
            (0, found, 0),
            (5, found, 0),
            (10, found, 2),
            (15, calm(11, 3, 5), 2),
            (20, calm(11, 3, 5), 3),
            (25, found, 2),
        ]);
    }

    #[test]
    fn what_arrives_meanwhile_neither_makes_an_orphan_nor_hides_a_known_one() {
        let busy = |known, arrived| Reading {
            before: 20,
            after: 20,
            arrived,
            known,
            moved: 0,
            ..Reading::default()
        };
        // Acknowledged and replaced between the questions.
        check(&[(0, busy(17, 3), 0), (5, busy(17, 3), 0), (10, busy(17, 3), 0), (15, busy(17, 3), 0)]);
        check(&[
            (0, busy(18, 0), 0),
            (5, busy(18, 0), 0),
            (10, busy(18, 0), 2),
            (15, busy(19, 4), 2),
            (20, busy(22, 0), 0),
        ]);
    }

    #[test]
    fn what_may_be_on_its_way_is_no_orphan() {
        // A hundred a second arrive and are delivered, and the consumer knows of them a little later.
        let late = |second: u64| {
            (
                second,
                Reading { before: 90, after: 90, known: 0, moved: 200 * second, ..Reading::default() },
                0,
            )
        };
        check(&(0..10).map(|n| late(5 * n)).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_consumer_is_through_with_is_an_orphan_however_busy_the_queue_is() {
        let busy =
            |passed| Reading { before: 90, after: 90, arrived: 9, known: 90, passed, ..Reading::default() };
        check(&[
            (0, busy(0), 0),
            (5, busy(2), 0),
            (10, busy(3), 2),
            (15, busy(3), 3),
            (20, busy(0), 3),
            (25, calm(90, 90, 0), 0),
        ]);
        // Given up only for a moment.
        check(&[(0, busy(2), 0), (4, calm(90, 90, 0), 0), (5, busy(0), 0), (10, busy(0), 0)]);
    }
}
