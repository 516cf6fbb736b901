//! The part of the process that answers `nats micro`.

use std::time::SystemTime;

use super::queue::Shared;
use crate::{
    observe::metrics::Metrics,
    tasks::supervisor::Part,
    upkeep::service::{Endpoint, Service, id},
};

/// Keeps it running until it is drained. The metrics are those of the queues, in the order of the settings.
pub(super) fn keep(shared: &Shared, metrics: &[Metrics]) {
    let Shared { config, jetstream, denied, worker, supervisor, running, .. } = shared;
    let endpoints = config.queues.iter().zip(metrics).map(|(queue, metrics)| Endpoint {
        queue: queue.name.clone(),
        subject: queue.filter_subject.clone(),
        stream: queue.stream.clone(),
        durable: queue.durable.clone(),
        metrics: metrics.clone(),
    });
    let service = Service {
        jetstream: jetstream.clone(),
        denied: denied.clone(),
        id: id(),
        worker: worker.clone(),
        started: SystemTime::now(),
        endpoints: endpoints.collect(),
    };
    let (supervisor, stop) = (supervisor.clone(), running.stop.clone());
    running.pulling.spawn(async move {
        let start = || {
            let (service, stop) = (service.clone(), stop.clone());
            async move {
                stop.run_until_cancelled(service.run()).await;
            }
        };
        // This part is never given up.
        let _ = supervisor.keep(Part::Service, "", &stop, start).await;
    });
}
