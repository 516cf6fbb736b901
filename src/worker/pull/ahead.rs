//! How many messages to ask for beyond the permits that are free.
//!
//! A request takes about a millisecond where much is going on, and the permits that are given back meanwhile
//! have nothing to do. Where calls end that quickly, what will be called within the next moments is asked
//! for before there are permits for it, and is on its way, or lies unread, until there are. Where calls take
//! 16 ms or longer nothing is: no message is to wait here that another worker could call.

use std::time::Duration;

use tokio::time::Instant;

/// What is called within so long is asked for ahead as a rule.
pub const SPAN: Duration = Duration::from_millis(2);
/// Calls are counted for so many spans at least.
const WINDOW: u32 = 8;
/// What was asked for ahead may wait for a permit for so long since then.
const PATIENCE: Duration = Duration::from_millis(250);
/// What comes later than that may wait for so long all together.
const GRACE: Duration = Duration::from_millis(25);

/// What a lane knows of the pace of its calls. Pure.
#[derive(Debug)]
pub(super) struct Ahead {
    span: Duration,
    since: Instant,
    begun: usize,
    /// As many as ended within a span lately, at least.
    messages: usize,
    /// Until when what was asked for at that moment may wait, though its patience is over.
    grace: Option<(Instant, Instant)>,
}

impl Ahead {
    pub(super) fn new(span: Duration, now: Instant) -> Self {
        Self { span, since: now, begun: 0, messages: 0, grace: None }
    }

    /// A call began.
    pub(super) fn begins(&mut self) {
        self.begun = self.begun.saturating_add(1);
    }

    /// As many messages as will be called soon, if all goes on as it did. Of the calls that began only those
    /// beyond the `permits` are known to have followed one that ended.
    pub(super) fn messages(&mut self, now: Instant, permits: impl FnOnce() -> usize) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= self.span * WINDOW {
            let ended = self.begun.saturating_sub(permits());
            self.messages = (self.span.as_secs_f64() / elapsed.as_secs_f64() * ended as f64) as usize;
            (self.since, self.begun) = (now, 0);
        }
        self.messages
    }

    /// Until when what was `asked` for then may wait for a permit.
    pub(super) fn patience(&mut self, asked: Instant, now: Instant) -> Instant {
        let last = asked + PATIENCE;
        if last > now + GRACE {
            return last;
        }
        match self.grace {
            Some((of, until)) if of == asked => until,
            _ => self.grace.insert((asked, now + GRACE)).1,
        }
    }

    /// Nothing ends any more.
    pub(super) fn none(&mut self, now: Instant) {
        *self = Self::new(self.span, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMITS: usize = 64;

    fn after(ahead: &mut Ahead, begun: usize, elapsed: Duration) -> usize {
        (0..begun).for_each(|_| ahead.begins());
        ahead.messages(ahead.since + elapsed, || PERMITS)
    }

    #[test]
    fn as_many_as_ended_within_a_span_are_asked_for_ahead() {
        let mut ahead = Ahead::new(SPAN, Instant::now());
        assert_eq!(after(&mut ahead, 8 * 40 + PERMITS, SPAN * WINDOW), 40);
        assert_eq!(after(&mut ahead, 8 * 40 + PERMITS, SPAN * 2 * WINDOW), 20);
        // Too soon to tell: what was found before holds.
        assert_eq!(after(&mut ahead, 1, SPAN * WINDOW / 2), 20);
        assert_eq!(after(&mut ahead, 0, SPAN * WINDOW), 0);
    }

    #[test]
    fn calls_that_take_long_ask_for_nothing_ahead_when_all_begin_at_once() {
        let mut ahead = Ahead::new(SPAN, Instant::now());
        for takes in [Duration::from_millis(17), Duration::from_millis(100), Duration::from_secs(10)] {
            for _ in 0..20 {
                let start = ahead.since;
                // They begin together, and those behind them when they end.
                for begun in 1..=PERMITS {
                    ahead.begins();
                    let now = start + Duration::from_micros(50) * begun as u32;
                    assert_eq!(ahead.messages(now, || PERMITS), 0, "{takes:?}");
                }
                assert_eq!(ahead.messages(start + takes, || PERMITS), 0);
            }
        }
    }

    #[test]
    fn nothing_is_asked_for_ahead_once_nothing_ends() {
        let mut ahead = Ahead::new(SPAN, Instant::now());
        assert!(after(&mut ahead, 600, SPAN * WINDOW) > 0);
        let since = ahead.since;
        ahead.none(since);
        assert_eq!(ahead.messages(since, || PERMITS), 0);
    }

    #[test]
    fn the_messages_of_a_request_that_took_long_have_one_grace_together() {
        let asked = Instant::now();
        let mut ahead = Ahead::new(SPAN, asked);
        let soon = asked + Duration::from_millis(1);
        assert_eq!(ahead.patience(asked, soon), asked + PATIENCE);
        let late = asked + PATIENCE * 2;
        assert_eq!(ahead.patience(asked, late), late + GRACE);
        assert_eq!(ahead.patience(asked, late + GRACE / 2), late + GRACE);
        assert_eq!(ahead.patience(soon, late + GRACE), late + GRACE * 2);
    }
}
