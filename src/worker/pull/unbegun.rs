//! Redeliveries that were never begun: nobody's death is behind them, and they count as no interruption.
//!
//! A message that was on its way when a connection broke is lost, and comes again as a delivery that somebody
//! seems to have had. Nobody knows which messages those were, but there are no more of them than the requests
//! that were open still asked for. This process also remembers the messages that it had and gave up, because
//! their leases ended while they waited for a permit or for the broker.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// So many are remembered of each kind.
const MOST: usize = 1_024;
/// A lost delivery comes again once `ack_wait` is over and somebody asks. It is waited for twice as long, and
/// this long besides.
const MARGIN: Duration = Duration::from_secs(30);

/// One lane's knowledge of this. Pure.
#[derive(Debug, Default)]
pub struct Unbegun {
    /// How many deliveries may have been lost on their way, and until when they may come again.
    lost: usize,
    until: Option<Instant>,
    given_up: VecDeque<GivenUp>,
}

#[derive(Debug)]
struct GivenUp {
    sequence: u64,
    delivered: u64,
    begun: bool,
}

impl Unbegun {
    /// So many deliveries may have been lost on their way.
    pub(super) fn lost(&mut self, deliveries: usize, now: Instant, ack_wait: Duration) {
        if deliveries > 0 {
            self.expire(now);
            self.lost = self.lost.saturating_add(deliveries).min(MOST);
            self.until = self.until.max(Some(now + 2 * ack_wait + MARGIN));
        }
    }

    /// The lease of a delivery ended here.
    pub(super) fn gave_up(&mut self, sequence: u64, delivered: u64, begun: bool) {
        if self.given_up.len() >= MOST {
            self.given_up.pop_front();
        }
        self.given_up.push_back(GivenUp { sequence, delivered, begun });
    }

    /// Whether what comes for the `delivered`th time was never begun before, as far as can be known here.
    pub(super) fn holds(&mut self, sequence: u64, delivered: u64, now: Instant) -> bool {
        if delivered < 2 {
            return false;
        }
        self.expire(now);
        let known = self.given_up.iter().position(|given_up| given_up.sequence == sequence);
        match known.and_then(|place| self.given_up.remove(place)) {
            Some(GivenUp { begun: true, .. }) => false,
            Some(given_up) if given_up.delivered + 1 == delivered => true,
            _ if self.lost > 0 => {
                self.lost -= 1;
                true
            }
            _ => false,
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            (self.lost, self.until) = (0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(60);

    #[test]
    fn as_many_redeliveries_as_may_have_been_lost_on_their_way_were_never_begun_and_no_more() {
        let (mut unbegun, now) = (Unbegun::default(), Instant::now());
        assert!(!unbegun.holds(1, 2, now));
        unbegun.lost(2, now, ACK_WAIT);
        // A first delivery was not lost.
        assert!(!unbegun.holds(1, 1, now));
        assert!(unbegun.holds(1, 2, now) && unbegun.holds(2, 5, now));
        assert!(!unbegun.holds(3, 2, now));
    }

    #[test]
    fn what_was_lost_comes_again_in_time_or_was_not_lost() {
        let (mut unbegun, now) = (Unbegun::default(), Instant::now());
        let end = now + 2 * ACK_WAIT + MARGIN;
        unbegun.lost(2, now, ACK_WAIT);
        assert!(unbegun.holds(1, 2, end - Duration::from_secs(1)));
        assert!(!unbegun.holds(2, 2, end));
        unbegun.lost(1, end, ACK_WAIT);
        assert!(unbegun.holds(2, 2, end) && !unbegun.holds(3, 2, end));
    }

    #[test]
    fn what_was_begun_here_counts_and_what_waited_here_in_vain_does_not() {
        let (mut unbegun, now) = (Unbegun::default(), Instant::now());
        unbegun.gave_up(1, 1, true);
        unbegun.gave_up(2, 1, false);
        unbegun.gave_up(3, 1, false);
        assert!(!unbegun.holds(3, 3, now), "somebody else had it in between");
        unbegun.lost(1, now, ACK_WAIT);
        assert!(!unbegun.holds(1, 2, now));
        assert!(unbegun.holds(2, 2, now));
        assert!(unbegun.holds(4, 2, now), "the one that was lost is none of these");
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let (mut unbegun, now) = (Unbegun::default(), Instant::now());
        (0..=MOST as u64).for_each(|sequence| unbegun.gave_up(sequence, 1, false));
        assert!(!unbegun.holds(0, 2, now) && unbegun.holds(1, 2, now));
        (0..9).for_each(|_| unbegun.lost(MOST, now, ACK_WAIT));
        assert_eq!((0..2 * MOST as u64).filter(|n| unbegun.holds(n + 9_999, 2, now)).count(), MOST);
    }
}
