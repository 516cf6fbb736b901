//! The end of a process: stop pulling, wait for the running calls, hand the rest back.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long calls that were cut off have to be handed back.
pub const HAND_BACK: Duration = Duration::from_secs(3);

/// What runs in a process, and how it is told to end.
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

impl Running {
    /// Returns when nothing runs any more, once `grace` is over or before, and at most three seconds later.
    pub async fn drain(&self, grace: Duration) {
        tracing::info!(running = self.calls.len(), grace = grace.as_secs_f64(), "Draining");
        let began = Instant::now();
        self.stop.cancel();
        if timeout(grace, self.ended()).await.is_err() {
            tracing::warn!(running = self.calls.len(), "the grace is over: the calls that still run are cut off and handed back");
            self.cut.cancel();
            if timeout(HAND_BACK, self.ended()).await.is_err() {
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
