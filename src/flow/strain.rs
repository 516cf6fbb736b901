//! Less to do for a worker whose machine is short of something: half of the calls at once, for a while, and
//! half again while the shortage lasts. What it cannot call is handed back, so that nothing is lost by being
//! slow, and nothing won by being quick.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::flow::{permits::Permits, shortage::Shortage};

/// How long a call that was handed back waits before it is tried again.
const WAIT: Duration = Duration::from_secs(2);
/// All that fails within so long fails for the same shortage.
const MOMENT: Duration = Duration::from_secs(1);
/// How long permits are withdrawn, at first and at most.
const RELIEF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(160));
/// A line in the log at most that often.
const TELL: Duration = Duration::from_secs(10);

/// A process's knowledge of its shortages. Cheap to clone; the clones agree.
#[derive(Debug, Clone)]
pub struct Strain {
    permits: Permits,
    past: Arc<Mutex<Past>>,
}

#[derive(Debug, Default)]
struct Past {
    /// When permits were withdrawn last, and for how long.
    relieved: Option<(Instant, Duration)>,
    told: Option<Instant>,
    /// Calls that were handed back since then.
    untold: u64,
}

impl Strain {
    /// Shortages are met by withdrawing some of these permits.
    pub fn new(permits: Permits) -> Self {
        Self { permits, past: Arc::default() }
    }

    /// Notes that a call could not be made, and says how long it is to wait.
    pub fn note(&self, shortage: Shortage) -> Duration {
        let now = Instant::now();
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.untold += 1;
        if past.told.is_none_or(|told| now - told >= TELL) {
            tracing::warn!(
                shortOf = shortage.as_str(),
                calls = past.untold,
                "This worker is short of what calls take: they are handed back, uncounted, and fewer run at \
                    once for a while"
            );
            past.told = Some(now);
            past.untold = 0;
        }
        if let Some(relief) = past.relief(now) {
            let withdrawn = self.permits.withdraw_half();
            let permits = self.permits.clone();
            tokio::spawn(async move {
                sleep(relief).await;
                permits.give_back(withdrawn);
            });
        }
        WAIT
    }
}

impl Past {
    /// For how long permits are to be withdrawn now, if they are. A shortage that comes back soon lasts
    /// longer.
    fn relief(&mut self, now: Instant) -> Option<Duration> {
        let relief = match self.relieved {
            Some((since, _)) if now - since < MOMENT => return None,
            Some((since, relief)) if now - since < relief * 4 => RELIEF.1.min(relief * 2),
            _ => RELIEF.0,
        };
        self.relieved = Some((now, relief));
        Some(relief)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn half_of_the_calls_are_made_while_something_is_short_and_all_of_them_afterwards() {
        let permits = Permits::new(8);
        let lane = permits.lanes(1).remove(0);
        let strain = Strain::new(permits);
        let running = lane.take_free(9);
        assert_eq!(running.len(), 8);
        // All of these are one shortage.
        for _ in 0..5 {
            assert_eq!(strain.note(Shortage::Files), WAIT);
        }
        drop(running);
        assert_eq!(lane.take_free(9).len(), 4);
        tokio::time::sleep(MOMENT).await;
        let running = lane.take_free(9);
        strain.note(Shortage::Files);
        drop(running);
        assert_eq!(lane.take_free(9).len(), 2);
        tokio::time::sleep(RELIEF.0 * 3).await;
        assert_eq!(lane.take_free(9).len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_is_always_made() {
        let permits = Permits::new(2);
        let lane = permits.lanes(1).remove(0);
        let strain = Strain::new(permits);
        for _ in 0..5 {
            strain.note(Shortage::Memory);
            tokio::time::sleep(MOMENT).await;
        }
        assert_eq!(lane.take_free(9).len(), 1);
    }

    #[test]
    fn a_shortage_that_comes_back_soon_lasts_longer() {
        let (mut past, began) = (Past::default(), Instant::now());
        let seconds = Duration::from_secs;
        for (at, relief) in [
            (0, Some(10)),
            (0, None),
            (1, Some(20)),
            (60, Some(40)),
            (200, Some(80)),
            (500, Some(160)),
            (900, Some(160)),
        ] {
            assert_eq!(past.relief(began + seconds(at)), relief.map(seconds), "{at}");
        }
        assert_eq!(past.relief(began + seconds(10_000)), Some(RELIEF.0));
    }
}
