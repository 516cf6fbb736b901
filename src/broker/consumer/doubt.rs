//! Which deliveries may have been settled before, though the broker delivers them as if for the first time.
//!
//! A broker that is killed forgets the acknowledgements of its last moments, and of some messages that it
//! ever delivered them. Neither who saw it die nor when they come tells them: the worker that settled them
//! may be gone too, and behind a backlog they take minutes. But a broker delivers for the first time in the
//! order of the stream. So what it forgot is among the first messages that come from it, however many
//! workers share them.
//!
//! ```text
//!  a connection, or a request that was lost ──▶ is it the broker of the last look still? ──yes──▶ as before
//!                                                   │ no, or nobody can say
//!                                                   ▼
//!                      the first 2,000 are doubted ──▶ a look ──▶ but for those that are younger than it
//! ```
//!
//! A broker forgets nothing while it runs. So an invocation is not doubted whose first message was stored
//! later than a moment since which the broker has been running: the look, or a delivery that it still knows
//! the time of, which it keeps in its memory only. None is where this process made the queue's streams on
//! this broker: no worker had any delivery before it. Where another server than the one that is connected to
//! has the stream, as in a cluster, it may die without a sign: there nothing is proved, and all of the first
//! messages are doubted.

use std::time::SystemTime;

use crate::message::names::Id;

/// So many are doubted. A broker that was busy with nothing else was seen to forget 970.
const FORGOTTEN: u32 = 2_000;
/// A look that fails is tried again so often: a broker that has just started may still be reading.
const LOOKS: u8 = 3;

/// What a look at the broker proves: of later invocations than this it has forgotten nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The last sequence of the queue's stream.
    pub sequence: u64,
    /// When that message was stored; when the stream was made, if it never had one.
    pub stored: SystemTime,
    /// A moment since which the broker has been running, if it tells one.
    pub running: Option<SystemTime>,
}

impl Horizon {
    /// Whether the broker knows all that was ever done about this invocation.
    ///
    /// A sequence alone is not enough: a stream that is made anew begins them again. Nor is a time: somebody
    /// may set the broker's clock, and then a message may seem younger than those behind it.
    pub fn clears(&self, id: Id) -> bool {
        let stored = id.stored_at();
        let later = id.sequence > self.sequence && stored > self.stored;
        later || self.running.is_some_and(|since| stored > since && stored <= self.stored)
    }
}

/// Whether a delivery may have been settled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubtful {
    /// It was not.
    No,
    /// It may have been.
    Yes,
    /// It may have been unless this clears its invocation.
    Unless(Horizon),
}

impl Doubtful {
    /// What that means for a message of this invocation.
    pub fn about(self, id: Id) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Unless(horizon) => !horizon.clears(id),
        }
    }
}

/// The doubt about one consumer's deliveries. Pure: the simulation has the same.
#[derive(Debug, Default)]
pub struct Doubt {
    /// The connection that requests were last sent on, by its number.
    made: u64,
    /// How many servers it had led to by then.
    lives: u64,
    /// The server on which no worker had a delivery before, by how many there were until then.
    new_to: Option<u64>,
    /// How many more of its messages are doubtful.
    left: u32,
    /// What is proved.
    horizon: Option<Horizon>,
    /// How often a look is still tried.
    looks: u8,
}

impl Doubt {
    /// That of a consumer of which no worker had a delivery on the server `new_to`.
    pub fn of(new_to: Option<u64>) -> Self {
        Self { new_to, ..Self::default() }
    }

    /// Notes the connection on which the next request is sent: how often one was made, and how often it led
    /// to a server that may have started since.
    pub fn connected(&mut self, made: u64, lives: u64) {
        let same = self.horizon.is_some() && self.lives == lives;
        if made > self.made && !same {
            self.begins();
        }
        (self.made, self.lives) = (self.made.max(made), lives);
    }

    /// Notes that the broker may have forgotten something, although the connection stands.
    pub fn arises(&mut self) {
        self.new_to = None;
        self.begins();
    }

    fn begins(&mut self) {
        (self.left, self.horizon, self.looks) = (FORGOTTEN, None, LOOKS);
    }

    /// Whether to look at the broker before the next request.
    pub fn wants_look(&mut self) -> bool {
        let wants = self.looks > 0;
        self.looks = self.looks.saturating_sub(1);
        wants
    }

    /// Notes what a look proves, if it proves anything.
    pub fn looked(&mut self, horizon: Option<Horizon>) {
        (self.horizon, self.looks) = (horizon, 0);
    }

    /// Notes a message that came for the `delivered`th time, when connections had been made so often.
    pub fn delivered(&mut self, delivered: u64, made: u64) -> Doubtful {
        // Messages that the broker knows to have delivered before keep to no order.
        if delivered > 1 {
            return Doubtful::Yes;
        }
        let left = self.left;
        self.left = left.saturating_sub(1);
        match self.horizon {
            // Of this connection nothing is known yet.
            _ if made > self.made => Doubtful::Yes,
            _ if left == 0 => Doubtful::No,
            Some(_) if self.new_to == Some(self.lives) => Doubtful::No,
            Some(horizon) => Doubtful::Unless(horizon),
            None => Doubtful::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn id(sequence: u64, stored: u64) -> Id {
        Id::new(sequence, at(stored))
    }

    fn horizon(running: Option<u64>) -> Horizon {
        Horizon { sequence: 10, stored: at(100), running: running.map(at) }
    }

    #[test]
    fn a_horizon_clears_what_is_younger_than_it_and_what_is_older_only_if_the_broker_ran_by_then() {
        for (running, sequence, stored, clear) in [
            (None, 11, 101, true),
            (None, 10, 100, false),
            (None, 9, 101, false),
            // Of a stream that was there before this one.
            (None, 11, 99, false),
            (None, 11, 100, false),
            (Some(50), 5, 51, true),
            (Some(50), 5, 50, false),
            (Some(50), 5, 49, false),
            (Some(50), 10, 100, true),
            // Somebody set the clock back since.
            (Some(50), 5, 101, false),
            (Some(50), 11, 101, true),
        ] {
            let clears = horizon(running).clears(id(sequence, stored));
            assert_eq!(clears, clear, "{running:?}, {sequence} of {stored}");
        }
    }

    #[test]
    fn the_first_messages_are_doubted_where_nothing_is_proved() {
        let mut doubt = Doubt::default();
        for made in [1, 2, 7] {
            doubt.connected(made, 1);
            assert!(doubt.wants_look());
            doubt.looked(None);
            assert!(!doubt.wants_look());
            for n in 0..FORGOTTEN {
                assert_eq!(doubt.delivered(1, made), Doubtful::Yes, "message {n} of connection {made}");
            }
            doubt.connected(made, 1);
            assert_eq!(doubt.delivered(1, made), Doubtful::No, "connection {made} is the same still");
        }
    }

    #[test]
    fn a_connection_to_the_broker_that_was_looked_at_raises_no_doubt_and_one_to_another_does() {
        let mut doubt = Doubt::default();
        doubt.connected(1, 1);
        doubt.looked(Some(horizon(None)));
        doubt.connected(2, 1);
        assert!(!doubt.wants_look());
        assert_eq!(doubt.delivered(1, 2), Doubtful::Unless(horizon(None)));
        doubt.connected(3, 2);
        assert!(doubt.wants_look());
        assert_eq!(doubt.delivered(1, 3), Doubtful::Yes);
        doubt.looked(Some(horizon(None)));
        doubt.arises();
        assert!(doubt.wants_look());
        assert_eq!(doubt.delivered(1, 3), Doubtful::Yes);
    }

    #[test]
    fn nothing_is_doubted_on_a_server_on_which_no_worker_had_a_delivery() {
        let mut doubt = Doubt::of(Some(2));
        for (made, lives, looked, doubtful) in [
            // It may be one of several that have the stream.
            (1, 2, None, Doubtful::Yes),
            (2, 2, Some(horizon(None)), Doubtful::No),
            (3, 2, None, Doubtful::No),
            (4, 3, Some(horizon(None)), Doubtful::Unless(horizon(None))),
        ] {
            doubt.connected(made, lives);
            if doubt.wants_look() {
                doubt.looked(looked);
            }
            assert_eq!(doubt.delivered(1, made), doubtful, "connection {made}");
        }
        let mut doubt = Doubt::of(Some(1));
        doubt.connected(1, 1);
        doubt.arises();
        doubt.looked(Some(horizon(None)));
        assert_eq!(doubt.delivered(1, 1), Doubtful::Unless(horizon(None)));
    }

    #[test]
    fn a_message_that_comes_before_its_connection_is_known_is_doubted() {
        let mut doubt = Doubt::default();
        doubt.connected(1, 1);
        doubt.looked(Some(horizon(None)));
        assert_eq!(doubt.delivered(1, 2), Doubtful::Yes);
        assert!((1..FORGOTTEN).all(|_| doubt.delivered(1, 1) != Doubtful::No));
        assert_eq!((doubt.delivered(1, 1), doubt.delivered(1, 2)), (Doubtful::No, Doubtful::Yes));
    }

    #[test]
    fn what_is_delivered_again_is_doubtful_and_does_not_count_among_the_first() {
        let mut doubt = Doubt::default();
        doubt.connected(1, 1);
        assert!((0..2 * FORGOTTEN).all(|_| doubt.delivered(2, 1) == Doubtful::Yes));
        assert!((0..FORGOTTEN).all(|_| doubt.delivered(1, 1) == Doubtful::Yes));
        assert_eq!((doubt.delivered(1, 1), doubt.delivered(2, 1)), (Doubtful::No, Doubtful::Yes));
    }

    #[test]
    fn a_look_that_fails_is_tried_again_and_not_for_ever() {
        let mut doubt = Doubt::default();
        assert!(!doubt.wants_look());
        doubt.connected(1, 1);
        assert_eq!((0..9).filter(|_| doubt.wants_look()).count(), usize::from(LOOKS));
    }

    /// What may happen to a broker and a worker.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A message is stored.
        Stores,
        /// The broker is killed, and back at once.
        Killed,
        /// The connection breaks, and is made again.
        Broken,
        /// The worker is another one.
        Exchanged,
        /// The consumer delivers something for the first time.
        Delivers,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Stores),
            1 => Just(Step::Killed),
            1 => Just(Step::Broken),
            1 => Just(Step::Exchanged),
            4 => Just(Step::Delivers),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever was delivered before the broker was killed is doubted when it comes again.
        #[test]
        fn nothing_that_a_killed_broker_may_have_forgotten_is_trusted(steps in steps()) {
            let mut doubt = Doubt::default();
            let (mut made, mut lives) = (0, 0);
            let (mut stored, mut cursor) = (0_u64, 0_u64);
            // What was ever delivered, and when this process of the broker delivered last.
            let (mut reached, mut active) = (0, None);
            for (now, step) in (1..).zip(steps) {
                match step {
                    Step::Stores => stored += 1,
                    Step::Killed => {
                        // It has forgotten all that it ever delivered.
                        (made, lives, active, cursor) = (made + 1, lives + 1, None, 0);
                    }
                    Step::Broken => made += 1,
                    Step::Exchanged => (doubt, made, lives) = (Doubt::default(), 0, 0),
                    Step::Delivers if cursor < stored => {
                        if made == 0 {
                            (made, lives) = (1, 1);
                        }
                        doubt.connected(made, lives);
                        if doubt.wants_look() {
                            // The number of a message is the time at which it was stored, in tens.
                            let (sequence, last, running) = (stored, at(stored * 10), active.map(at));
                            doubt.looked(Some(Horizon { sequence, stored: last, running }));
                        }
                        let doubtful = doubt.delivered(1, made).about(id(cursor + 1, (cursor + 1) * 10));
                        let forgotten = cursor < reached;
                        prop_assert!(doubtful || !forgotten, "{cursor} at step {now}");
                        cursor += 1;
                        reached = reached.max(cursor);
                        active = Some(stored * 10 + 5);
                    }
                    Step::Delivers => {}
                }
            }
        }
    }
}
