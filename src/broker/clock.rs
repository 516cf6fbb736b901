//! The broker's time. Due times are in it, because the broker's clock is the one that fires schedules.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// An answer that took longer says too little about the broker's clock, unless it proves that it was set.
const PRECISE: Duration = Duration::from_millis(250);
/// A skew that people should know of.
pub(crate) const NOTABLE_SKEW: Duration = Duration::from_secs(2);

/// The broker's clock, as far as its answers tell.
#[derive(Debug, Default)]
pub struct BrokerClock {
    /// What it said last.
    told: Mutex<Option<Told>>,
    skewed: AtomicBool,
}

/// A time that the broker told: no earlier than the question, no later than the answer.
#[derive(Debug, Clone, Copy)]
struct Told {
    time: SystemTime,
    asked: Instant,
    answered: Instant,
}

impl Told {
    /// Whether the clock was set between the two: at the `later` answer it showed neither more than a journey
    /// after that question, nor less than at it.
    fn contradicts(self, later: Self) -> bool {
        let since = |moment: Instant| self.time + (later.answered - moment);
        since(self.answered) > later.time + (later.answered - later.asked) || since(self.asked) < later.time
    }
}

impl BrokerClock {
    /// Learns from an answer that bears the broker's time `told`, to a question that was sent at `asked`. The
    /// time is taken for that of the question, so that this clock is ahead of the broker's by at most the
    /// journey, never behind: what is due by it is due. Returns how far the local wall clock is off, once
    /// when that becomes notable.
    pub fn learn(&self, told: SystemTime, asked: Instant) -> Option<Duration> {
        let answered = Instant::now();
        let journey = answered - asked;
        let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Told { time: told, asked, answered };
        if journey < PRECISE || known.is_none_or(|known| known.contradicts(now)) {
            *known = Some(now);
        }
        let skew = skew(told, SystemTime::now(), journey);
        let was_skewed = self.skewed.swap(skew > NOTABLE_SKEW, Ordering::Relaxed);
        (skew > NOTABLE_SKEW && !was_skewed).then_some(skew)
    }

    /// The broker's time now, or a journey later; the local wall clock before the first answer, and for good
    /// where the broker tells no time.
    ///
    /// Until NATS 2.10: a broker may tell none.
    pub fn now(&self) -> SystemTime {
        self.told().map_or_else(SystemTime::now, |told| told.time + told.asked.elapsed())
    }

    /// The broker's time now, or a journey earlier: what is due by this clock is due by the other as well.
    pub fn now_at_least(&self) -> SystemTime {
        self.told().map_or_else(SystemTime::now, |told| told.time + told.answered.elapsed())
    }

    fn told(&self) -> Option<Told> {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far two clocks are apart at least, the one read a `journey` before the other at most.
pub(crate) fn skew(told: SystemTime, here: SystemTime, journey: Duration) -> Duration {
    here.duration_since(told)
        .or_else(|_| told.duration_since(here))
        .unwrap_or_default()
        .saturating_sub(journey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_brokers_time_goes_on_from_what_it_said_and_a_skew_is_told_once() {
        let clock = BrokerClock::default();
        let told = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(clock.learn(told, Instant::now()).is_some());
        assert!(clock.learn(told, Instant::now()).is_none());
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(
            (clock.now(), clock.now_at_least()),
            (told + Duration::from_secs(7), told + Duration::from_secs(7))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_two_readings_of_a_clock_are_a_journey_apart() {
        let clock = BrokerClock::default();
        let (told, asked) = (SystemTime::now(), Instant::now());
        tokio::time::advance(Duration::from_millis(40)).await;
        clock.learn(told, asked);
        assert_eq!((clock.now(), clock.now_at_least()), (told + Duration::from_millis(40), told));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_took_long_replaces_a_precise_one_only_if_the_clock_was_set_between_them() {
        let (told, second) = (SystemTime::now(), Duration::from_secs(1));
        for (set, learnt) in [(0, false), (2, false), (4, true), (60, true), (-60, true)] {
            let clock = BrokerClock::default();
            clock.learn(told, Instant::now());
            let asked = Instant::now();
            tokio::time::advance(3 * second).await;
            let again = if set < 0 { told - 60 * second } else { told + set as u32 * second };
            clock.learn(again, asked);
            let expected = if learnt { again } else { told };
            assert_eq!(clock.now(), expected + 3 * second, "{set} s");
        }
    }
}
