//! How many messages to ask for beyond the permits that are free.
//!
//! A request takes about a millisecond where much is going on, and the permits that are given back meanwhile
//! have nothing to do. Where calls end that quickly, what will be called within the next moments is asked
//! for before there are permits for it, and is on its way, or lies unread, until there are. Where they take
//! longer nothing is: no message is to wait here that another worker could call.

use std::time::Duration;

use tokio::time::Instant;

/// What is called within so long may be asked for ahead.
const SPAN: Duration = Duration::from_millis(2);

/// A lane's count of the calls that began lately. Pure.
#[derive(Debug)]
pub(super) struct Ahead {
    since: Instant,
    begun: u32,
    /// As many as began within [`SPAN`] lately.
    messages: usize,
}

impl Ahead {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, begun: 0, messages: 0 }
    }

    /// A call began.
    pub(super) fn begins(&mut self) {
        self.begun = self.begun.saturating_add(1);
    }

    /// As many messages as will be called soon, if all goes on as it did.
    pub(super) fn messages(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= SPAN {
            let within = SPAN.as_secs_f64() / elapsed.as_secs_f64() * f64::from(self.begun);
            *self = Self { messages: within as usize, ..Self::new(now) };
        }
        self.messages
    }

    /// Nothing begins any more.
    pub(super) fn none(&mut self, now: Instant) {
        *self = Self::new(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ahead: &mut Ahead, begun: usize, elapsed: Duration) -> usize {
        (0..begun).for_each(|_| ahead.begins());
        ahead.messages(ahead.since + elapsed)
    }

    #[test]
    fn as_many_as_began_within_a_span_are_asked_for_ahead() {
        let mut ahead = Ahead::new(Instant::now());
        assert_eq!(after(&mut ahead, 60, SPAN), 60);
        assert_eq!(after(&mut ahead, 60, SPAN * 2), 30);
        // Too soon to tell: what was found before holds.
        assert_eq!(after(&mut ahead, 1, SPAN / 2), 30);
        // A burst after a pause, and calls that take long.
        assert_eq!(after(&mut ahead, 64, Duration::from_secs(1)), 0);
        assert_eq!(after(&mut ahead, 64, Duration::from_millis(100)), 1);
    }

    #[test]
    fn nothing_is_asked_for_ahead_once_nothing_begins() {
        let mut ahead = Ahead::new(Instant::now());
        assert_eq!(after(&mut ahead, 60, SPAN), 60);
        let since = ahead.since;
        ahead.none(since);
        assert_eq!(ahead.messages(since), 0);
        assert_eq!(after(&mut ahead, 60, SPAN), 60);
        assert_eq!(after(&mut ahead, 0, SPAN), 0);
    }
}
