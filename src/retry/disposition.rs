//! The decision about a delivery, with nothing left to decide. The worker's `settle` carries it out.

use std::time::Duration;

use crate::retry::{
    backoff::Backoff,
    judge::{Cause, Outcome, Reason},
};

/// The least that the pause of an unstorable message may be set to, at first and at most: no count of
/// attempts ever ends its tries.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The decision about a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Its call succeeded. Nothing is stored about that.
    Complete,
    /// Its callback was taken. Nothing is stored about that.
    Delivered,
    /// Its call failed, for this reason, and is made again.
    CallAgain(Again, Reason),
    /// Its callback was not taken, and is posted again.
    PostAgain(Again),
    /// Nothing was done, and nobody failed: it is tried again as it is.
    HandBack {
        /// How much later.
        wait: Duration,
        /// Its end where that cannot be stored.
        unstorable: Unstorable,
    },
    /// Its function is paused: it is held until that is over, as it is.
    Hold(Unstorable),
    /// It is given up and kept as a dead letter.
    Dead {
        /// Why it is given up.
        cause: Cause,
        /// Its end where the letter cannot be stored.
        unstorable: Unstorable,
    },
    /// It is given up, and there are no dead letters.
    Dropped(Cause),
}

/// Another try of what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// How much later.
    pub wait: Duration,
    /// How the try that failed came out.
    pub outcome: Outcome,
    /// How many tries there are at most.
    pub max_attempts: u32,
    /// The end of the delivery where the next try cannot be stored.
    pub unstorable: Unstorable,
}

/// The decision about a delivery whose consequence fits into no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unstorable {
    /// It stays in its stream, and is tried again after so long.
    Stays(Duration),
    /// Its consequence is lost, and it is let go.
    LetGo,
}

/// The facts that decide about a delivery beside its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    dead_letters: bool,
    unstorable: Unstorable,
}

impl Disposition {
    /// A delivery that was not begun is handed back for so long, in its stream if need be.
    pub fn hand_back(wait: Duration) -> Self {
        Self::HandBack { wait, unstorable: Unstorable::Stays(wait) }
    }

    /// Whether a message has to be stored for it.
    pub fn stores(&self) -> bool {
        !matches!(self, Self::Complete | Self::Delivered | Self::Dropped(_))
    }
}

impl Terms {
    /// The terms of a message that was `delivered` so often and is as yet where it was delivered from. Where
    /// its consequence fits nowhere it stays there, with a back-off by the broker's count: there is no other.
    pub fn stored(dead_letters: bool, delivered: u64, backoff: &Backoff) -> Self {
        let before = u32::try_from(delivered.saturating_sub(1)).unwrap_or(u32::MAX);
        let (initial, max) = (backoff.initial.max(PAUSE.0), backoff.max.max(PAUSE.1));
        let pause = Backoff { initial, max, jitter: backoff.jitter }.wait(before, 1.0);
        Self { dead_letters, unstorable: Unstorable::Stays(pause) }
    }

    /// The terms of a callback that is stored nowhere yet. One that fits nowhere is lost: the delivery is its
    /// invocation's, which has ended, and would be called again.
    pub fn not_stored(dead_letters: bool) -> Self {
        Self { dead_letters, unstorable: Unstorable::LetGo }
    }

    /// The end of an invocation: a success, or the cause of giving it up.
    pub fn end(self, cause: Option<Cause>) -> Disposition {
        cause.map_or(Disposition::Complete, |cause| self.give_up(cause))
    }

    /// A message is given up.
    pub fn give_up(self, cause: Cause) -> Disposition {
        if self.dead_letters {
            Disposition::Dead { cause, unstorable: self.unstorable }
        } else {
            Disposition::Dropped(cause)
        }
    }

    /// Another try follows after `wait`, of `max_attempts` at most.
    pub fn again(self, wait: Duration, outcome: Outcome, max_attempts: u32) -> Again {
        Again { wait, outcome, max_attempts, unstorable: self.unstorable }
    }

    /// A call of a paused function is held.
    pub fn hold(self) -> Disposition {
        Disposition::Hold(self.unstorable)
    }

    /// A try that was begun and not made is handed back for so long.
    pub fn hand_back(self, wait: Duration) -> Disposition {
        Disposition::HandBack { wait, unstorable: self.unstorable }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retry::backoff::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    fn backoff(initial: Duration, max: Duration, jitter: Jitter) -> Backoff {
        Backoff { initial, max, jitter }
    }

    fn pause(terms: Terms) -> Duration {
        match terms.unstorable {
            Unstorable::Stays(pause) => pause,
            Unstorable::LetGo => panic!("it is let go"),
        }
    }

    #[test]
    fn a_message_that_is_given_up_is_kept_or_dropped_as_the_settings_ask() {
        let usual = backoff(SECOND, SECOND, Jitter::None);
        for cause in Cause::ALL {
            for terms in [Terms::stored(false, 1, &usual), Terms::not_stored(false)] {
                assert_eq!(terms.give_up(cause), Disposition::Dropped(cause));
                assert_eq!(terms.end(Some(cause)), Disposition::Dropped(cause));
            }
            for terms in [Terms::stored(true, 1, &usual), Terms::not_stored(true)] {
                let dead = Disposition::Dead { cause, unstorable: terms.unstorable };
                assert_eq!((terms.give_up(cause), terms.end(Some(cause))), (dead.clone(), dead));
            }
        }
        assert_eq!(Terms::not_stored(true).end(None), Disposition::Complete);
        assert_eq!(Terms::not_stored(false).end(None), Disposition::Complete);
    }

    #[test]
    fn an_unstorable_message_stays_and_a_callback_that_was_never_stored_is_lost() {
        let stored = Terms::stored(true, 1, &backoff(2 * SECOND, 99 * SECOND, Jitter::None));
        let (stays, lost) = (Unstorable::Stays(2 * SECOND), Unstorable::LetGo);
        for (terms, unstorable) in [(stored, stays), (Terms::not_stored(true), lost)] {
            assert_eq!(terms.hand_back(SECOND), Disposition::HandBack { wait: SECOND, unstorable });
            let again = terms.again(SECOND, Outcome::TimedOut, 3);
            assert_eq!((again.wait, again.unstorable), (SECOND, unstorable));
        }
        // A delivery that was not begun is nobody's failure, and waits no longer than it was to wait.
        let unstorable = Unstorable::Stays(Duration::ZERO);
        assert_eq!(
            Disposition::hand_back(Duration::ZERO),
            Disposition::HandBack { wait: Duration::ZERO, unstorable }
        );
    }

    #[test]
    fn a_message_is_stored_for_all_but_success_and_what_is_dropped() {
        let terms = Terms::not_stored(true);
        let again = terms.again(SECOND, Outcome::TimedOut, 3);
        for disposition in [
            Disposition::CallAgain(again.clone(), Reason::TimedOut),
            Disposition::PostAgain(again),
            terms.hand_back(SECOND),
            terms.give_up(Cause::Refused),
        ] {
            assert!(disposition.stores(), "{disposition:?}");
        }
        let dropped = Terms::not_stored(false).give_up(Cause::Refused);
        for disposition in [Disposition::Complete, Disposition::Delivered, dropped] {
            assert!(!disposition.stores(), "{disposition:?}");
        }
    }

    #[test]
    fn the_pause_of_an_unstorable_message_grows_with_its_deliveries_from_a_second_to_a_minute_at_least() {
        let check = |initial: u32, max: u32, delivered, seconds: u32| {
            let terms =
                Terms::stored(true, delivered, &backoff(SECOND * initial, SECOND * max, Jitter::None));
            assert_eq!(pause(terms), SECOND * seconds, "{initial} {max} {delivered}");
        };
        check(0, 0, 0, 1);
        check(0, 0, 1, 1);
        check(0, 0, 2, 2);
        check(0, 0, 7, 60);
        check(10, 120, 1, 10);
        check(10, 120, 4, 80);
        check(10, 120, u64::MAX, 120);
    }

    proptest! {
        #[test]
        fn no_setting_makes_an_unstorable_message_spin(
            initial in any::<Duration>(), max in any::<Duration>(), delivered in any::<u64>(),
            jitter in prop::sample::select(vec![Jitter::None, Jitter::Full, Jitter::Equal]),
        ) {
            let pause = pause(Terms::stored(true, delivered, &backoff(initial, max, jitter)));
            prop_assert!(pause >= PAUSE.0 && pause <= max.max(PAUSE.1));
        }
    }
}
