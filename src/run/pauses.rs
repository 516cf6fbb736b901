//! The part of a queue's service that follows what is paused.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::queue::Shared;
use crate::{tasks::supervisor::Part, upkeep::pauses::Follower};

/// Keeps it running until `stop`.
pub(super) fn keep(
    shared: &Shared,
    follower: Follower,
    queue: &str,
    stop: &CancellationToken,
    lanes: &TaskTracker,
) {
    let (supervisor, queue, stop) = (shared.supervisor.clone(), queue.to_owned(), stop.clone());
    shared.running.pulling.spawn(lanes.track_future(async move {
        let start = || async {
            let _ = stop.run_until_cancelled(follower.clone().run()).await;
        };
        // This part is never given up.
        let _ = supervisor.keep(Part::Pauses, &queue, &stop, start).await;
    }));
}
