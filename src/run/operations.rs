//! The part of a queue's service that carries out what operators asked for.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::queue::Shared;
use crate::{
    message::names::Names,
    observe::metrics::Metrics,
    tasks::supervisor::Part,
    upkeep::operations::{self, Worker},
};

/// Keeps it running until `stop`. `sized`: the stream of retries has a size.
pub(super) fn keep(
    shared: &Shared,
    (names, metrics): (&Names, &Metrics),
    sized: bool,
    stop: &CancellationToken,
    lanes: &TaskTracker,
) {
    let Shared { jetstream, supervisor, running, worker, .. } = shared;
    let worker = Worker {
        jetstream: jetstream.clone(),
        names: names.clone(),
        name: worker.clone(),
        sized,
        metrics: Some(metrics.clone()),
    };
    let (supervisor, stop) = (supervisor.clone(), stop.clone());
    running.pulling.spawn(lanes.track_future(async move {
        let start = || operations::run(worker.clone(), stop.clone());
        // This part is never given up.
        let _ = supervisor.keep(Part::Operations, &worker.names.queue, &stop, start).await;
    }));
}
