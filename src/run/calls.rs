//! The part of a queue's service that tells which calls run, and learns which are not to.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::queue::Shared;
use crate::{
    flow::calls::Calls,
    message::{call::InHand, names::Names},
    tasks::supervisor::Part,
    upkeep::calls::{self, Desk},
};

/// A desk for a queue's calls.
pub(super) fn desk(shared: &Shared, names: &Names, calls: &Calls<InHand>) -> Desk {
    Desk {
        jetstream: shared.jetstream.clone(),
        names: names.clone(),
        worker: shared.worker.clone(),
        calls: calls.clone(),
        seen: Arc::default(),
    }
}

/// Keeps it running until `stop`.
pub(super) fn keep(shared: &Shared, desk: Desk, stop: &CancellationToken, lanes: &TaskTracker) {
    let Shared { supervisor, running, .. } = shared;
    let (supervisor, stop) = (supervisor.clone(), stop.clone());
    running.pulling.spawn(lanes.track_future(async move {
        let start = || {
            let (desk, stop) = (desk.clone(), stop.clone());
            async move {
                stop.run_until_cancelled(calls::run(desk)).await;
            }
        };
        // This part is never given up.
        let _ = supervisor.keep(Part::Calls, &desk.names.queue, &stop, start).await;
    }));
}
