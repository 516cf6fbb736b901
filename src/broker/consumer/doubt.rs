//! Which deliveries may have been settled before, though the broker delivers them as if for the first time.
//!
//! A broker that is killed forgets the acknowledgements of its last moments, and of some messages that it
//! ever delivered them. Neither who saw it die nor when they come tells them: the worker that settled them
//! may be gone too, and behind a backlog they take minutes. But a broker delivers for the first time in the
//! order of the stream. So what it forgot is among the first messages that come over a new connection,
//! however many workers share them.

/// So many are doubted. A broker that was busy with nothing else was seen to forget 970.
const FORGOTTEN: u32 = 2_000;

/// The doubt about one consumer's deliveries. Pure: the simulation has the same.
#[derive(Debug, Default)]
pub struct Doubt {
    /// The connection that requests were last sent on, by its number.
    made: u64,
    /// How many more of its messages are doubtful.
    left: u32,
}

impl Doubt {
    /// Notes the connection on which the next request is sent. It may be to a broker that was killed
    /// meanwhile.
    pub fn connected(&mut self, made: u64) {
        if made > self.made {
            *self = Self { made, left: FORGOTTEN };
        }
    }

    /// Notes a message that came for the `delivered`th time, and says whether it may have been settled
    /// before.
    pub fn delivered(&mut self, delivered: u64) -> bool {
        // Messages that the broker knows to have delivered before keep to no order.
        if delivered > 1 {
            return true;
        }
        let doubtful = self.left > 0;
        self.left = self.left.saturating_sub(1);
        doubtful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_messages_of_each_connection_are_doubtful() {
        let mut doubt = Doubt::default();
        for made in [1, 2, 7] {
            doubt.connected(made);
            for n in 0..FORGOTTEN {
                assert!(doubt.delivered(1), "message {n} of connection {made}");
            }
            doubt.connected(made);
            assert!(!doubt.delivered(1), "connection {made} is the same still");
        }
    }

    #[test]
    fn what_is_delivered_again_is_doubtful_and_does_not_count_among_the_first() {
        let mut doubt = Doubt::default();
        doubt.connected(1);
        assert!((0..2 * FORGOTTEN).all(|_| doubt.delivered(2)));
        assert!((0..FORGOTTEN).all(|_| doubt.delivered(1)));
        assert!(!doubt.delivered(1) && doubt.delivered(2));
    }
}
