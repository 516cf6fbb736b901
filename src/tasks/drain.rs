//! The end of a process: stop pulling, wait for the running calls, hand the rest back.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The time to hand back calls that were cut off.
pub const HAND_BACK: Duration = Duration::from_secs(3);

/// The time for the last acknowledgements to leave.
pub const FLUSH: Duration = Duration::from_secs(1);

/// The running tasks of a process, and the signals that end them.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// The lanes.
    pub pulling: TaskTracker,
    /// The calls.
    pub calls: TaskTracker,
    /// Ends the pulling.
    pub stop: CancellationToken,
    /// Cuts the calls off.
    pub cut: CancellationToken,
}

/// The number of times that the process was told to end: the first time it drains, the second time it waits
/// for no call any more, and the third time for nothing.
#[derive(Debug, Clone)]
pub struct Told(watch::Receiver<u32>);

impl Told {
    /// Nobody said anything yet; whoever holds the other end counts.
    pub fn new() -> (watch::Sender<u32>, Self) {
        let (count, told) = watch::channel(0);
        (count, Self(told))
    }

    /// Waits until the process was told so many times.
    pub async fn times(&self, times: u32) {
        if self.0.clone().wait_for(|told| *told >= times).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Running {
    /// Returns when nothing runs any more, once `grace` is over or before, and at most three seconds later.
    /// Being told again ends the grace, and then the three seconds.
    pub async fn drain(&self, grace: Duration, told: &Told) {
        tracing::info!(running = self.calls.len(), grace = grace.as_secs_f64(), "Draining");
        let began = Instant::now();
        self.stop.cancel();
        let over = tokio::select! {
            ended = timeout(grace, self.ended()) => ended.err().map(|_| "the grace is over"),
            () = told.times(2) => Some("told to end again"),
        };
        if let Some(why) = over {
            tracing::warn!(
                running = self.calls.len(),
                "{why}: the calls that still run are cut off and handed back"
            );
            self.cut.cancel();
            let handed_back = tokio::select! {
                ended = timeout(HAND_BACK, self.ended()) => ended.is_ok(),
                () = told.times(3) => false,
            };
            if !handed_back {
                tracing::warn!(
                    running = self.calls.len(),
                    "some could not be handed back; the broker delivers them again when their leases end"
                );
                return;
            }
        }
        tracing::info!(seconds = began.elapsed().as_secs_f64(), "Drained");
    }

    /// Lanes hand back what they have not begun, and those are calls too: so the lanes end first.
    async fn ended(&self) {
        self.pulling.close();
        self.pulling.wait().await;
        self.calls.close();
        self.calls.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(25);

    /// How long a drain takes that is told to end so many times, with a call that ends when it is cut off, or
    /// never.
    async fn drained(times: u32, heeds: bool) -> Duration {
        let (count, told) = Told::new();
        let running = Running::default();
        let cut = running.cut.clone();
        running.calls.spawn(async move {
            cut.cancelled().await;
            if !heeds {
                std::future::pending::<()>().await;
            }
        });
        count.send_replace(times);
        let began = Instant::now();
        running.drain(GRACE, &told).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_word_ends_the_grace_and_the_third_the_handing_back() {
        assert_eq!((drained(1, true).await, drained(1, false).await), (GRACE, GRACE + HAND_BACK));
        assert_eq!((drained(2, true).await, drained(2, false).await), (Duration::ZERO, HAND_BACK));
        assert_eq!((drained(3, true).await, drained(3, false).await), (Duration::ZERO, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_cannot_say_anything_any_more_has_not_said_it() {
        let (count, told) = Told::new();
        drop(count);
        assert!(timeout(GRACE, told.times(1)).await.is_err());
    }
}
