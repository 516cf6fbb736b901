//! Messages that are asked for before there are permits for them. Each needs one before anything is begun,
//! but the room for its bytes is taken from when it is asked for.

use super::{Lane, PARTS};

/// No more are waited for before the next request.
const MANY: usize = 64;

impl Lane {
    /// How many permits there are.
    pub fn limit(&self) -> usize {
        self.permits.state().limit
    }

    /// So many permits, or messages, are worth a request of their own.
    pub fn many(&self) -> usize {
        self.limit().div_ceil(PARTS).min(MANY)
    }

    /// Says that so many messages may come for which there are no permits yet, instead of as many as before.
    /// Returns how many may: there has to be room for more than before, and for all lanes together they are
    /// no more than there are permits, and none where those are few.
    pub fn foresee(&mut self, messages: usize) -> usize {
        if messages == self.foreseen {
            return messages;
        }
        let mut state = self.permits.state();
        let others = state.foreseen - self.foreseen;
        let most = if state.limit < PARTS { 0 } else { state.limit };
        let room = state.room.saturating_sub(state.taken) / state.largest.max(1);
        let allowed = most.saturating_sub(others).min(self.foreseen.saturating_add(room));
        let messages = messages.min(allowed.max(self.foreseen));
        let bytes = |messages: usize| messages.saturating_mul(state.largest);
        state.taken = state.taken.saturating_sub(bytes(self.foreseen)).saturating_add(bytes(messages));
        state.foreseen = others + messages;
        self.foreseen = messages;
        self.permits.serve(&mut state);
        messages
    }
}

#[cfg(test)]
mod tests {
    use crate::flow::permits::Permits;

    #[test]
    fn a_part_of_the_permits_is_many_and_of_many_permits_what_one_request_asks_for() {
        for (permits, many) in [(1, 1), (8, 1), (50, 7), (64, 8), (2_000, 64), (100_000, 64)] {
            assert_eq!(Permits::new(permits).lane().many(), many, "{permits}");
        }
    }

    #[test]
    fn all_lanes_foresee_as_many_as_there_are_permits_and_none_where_those_are_few() {
        let mut lanes = Permits::new(10).lanes(2);
        assert_eq!((lanes[0].foresee(7), lanes[1].foresee(7)), (7, 3));
        assert_eq!((lanes[0].foresee(0), lanes[1].foresee(7)), (0, 7));
        drop(lanes.pop());
        assert_eq!(lanes[0].foresee(99), 10);
        assert_eq!(Permits::new(7).lane().foresee(7), 0);
    }

    #[test]
    fn what_is_foreseen_has_room() {
        let permits = Permits::within(8, 55, 10);
        let (mut lane, mut other) = (permits.lane(), permits.lane());
        let mut running = lane.take_free(2);
        assert_eq!(lane.foresee(4), 3);
        assert_eq!((other.take_free(1).len(), other.foresee(1)), (0, 0));
        // Smaller than it might have been.
        running[0].carry(0);
        assert_eq!(other.foresee(1), 1);
        // One came, and finds a permit.
        assert_eq!(lane.foresee(2), 2);
        assert_eq!(lane.take_free(9).len(), 1);
        drop((running, lane, other));
        assert_eq!(permits.lane().take_free(9).len(), 5);
    }
}
