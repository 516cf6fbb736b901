//! The parts of a queue's worker.

use super::Service;
use crate::{
    broker::{jetstream::JetStream, streams::Ready},
    outbound::{invoke::HttpGateway, lookup::Lookup},
    run::queue::Shared,
    worker::{
        delivery::settle::{Newest, Settle},
        process::{Chance, News, Parts, Worker},
    },
};

impl Service<'_> {
    /// The worker of a queue that was made ready.
    pub(super) fn worker(&self, ready: &Ready) -> Worker<JetStream, HttpGateway> {
        let Shared { config, jetstream, lookup, callbacks, gate, tracer, running, worker, .. } = self.shared;
        Worker::new(Parts {
            settle: Settle {
                broker: if ready.sized { jetstream.sparing(&self.names.retries) } else { jetstream.clone() },
                names: self.names.clone(),
                timer: ready.timer,
                confirm_acks: config.confirm_acks,
                dead_letters: config.dead_letters.enabled,
                metrics: self.metrics.clone(),
                standby: self.standby.clone(),
                newest: Newest::default(),
            },
            form: self.queue.form.clone(),
            gateway: self.gateway.clone(),
            policy: config.retry.clone(),
            // A gateway knows its functions only.
            lookup: if self.queue.request.is_none() { lookup.clone() } else { Lookup::Off },
            callbacks: callbacks.clone(),
            paused: self.paused.clone(),
            gate: gate.clone(),
            metrics: self.metrics.clone(),
            news: News::default(),
            tracer: tracer.clone(),
            chance: Chance::default(),
            name: worker.clone(),
            audit: self.audit.clone(),
            calls: self.calls.clone(),
            cut: running.cut.clone(),
        })
    }
}
