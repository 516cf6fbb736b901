//! The service of one queue: make it ready, pull from its lanes, look after it. A queue that is late or loses a stream is
//! made ready (again) while the others of the process are served.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    admin::Readiness,
    callback::Callbacks,
    config::{Config, Queue},
    consumer::Consumer,
    depth::{Gauge, Gauges},
    drain::Running,
    gate::Gate,
    ghosts,
    invoke::HttpGateway,
    janitor,
    jetstream::JetStream,
    levels,
    lookup::Lookup,
    metrics::Metrics,
    names::Names,
    permits::Permits,
    poison::Burial,
    pull::Pull,
    settle::Settle,
    standby::Standby,
    streams::{self, Ready, SetupError},
    trace::Tracer,
    worker::{News, Parts, Worker},
};

/// How long a server without JetStream is believed to be still starting.
const JETSTREAM_STARTS: Duration = Duration::from_secs(3);
/// The pause before the set-up is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often the consumers are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// What the queues of a process share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The broker.
    pub jetstream: JetStream,
    /// Who may start the next call, whichever queue it comes from.
    pub permits: Permits,
    /// Where functions answer.
    pub gateway: HttpGateway,
    /// Finds the annotations that messages do not carry.
    pub lookup: Lookup,
    /// Posts callbacks.
    pub callbacks: Callbacks,
    /// Says "not now".
    pub gate: Gate,
    /// Makes traces.
    pub tracer: Tracer,
    /// Whether the queues are ready.
    pub readiness: Readiness,
    /// The depths of the queues that were made ready.
    pub gauges: Gauges,
    /// What runs, and how it is told to end.
    pub running: Running,
    /// This worker's name in histories.
    pub worker: String,
}

/// The service of one queue.
#[derive(Debug)]
pub struct Service<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    names: Names,
    metrics: Metrics,
    standby: Standby,
}

impl<'a> Service<'a> {
    /// The service of `queue`, which counts in `metrics`; what waits for the broker stands by in `standby`.
    pub fn new(shared: &'a Shared, queue: &'a Queue, metrics: Metrics, standby: Standby) -> Self {
        Self { shared, queue, names: Names::new(&queue.name, &queue.stream), metrics, standby }
    }

    /// Serves until dropped; the lanes and calls that it started run on, until they are drained. Returns only when the queue
    /// cannot be served, and why.
    pub async fn run(&self) -> String {
        let ready = match self.make_ready().await {
            Ok(ready) => ready,
            Err(reason) => return reason,
        };
        self.pull(&ready);
        tokio::select! {
            () = janitor::run(&self.shared.jetstream, &self.names, ready.timer, &self.metrics) => std::future::pending().await,
            () = ghosts::run(&self.shared.jetstream, &self.names, &ready.fresh) => std::future::pending().await,
            reason = self.keep_ready(&ready) => reason,
        }
    }

    /// Sets the queue up, however long the broker takes to be able to.
    async fn make_ready(&self) -> Result<Ready, String> {
        let Shared { config, jetstream, readiness, .. } = self.shared;
        let began = Instant::now();
        let mut said = String::new();
        loop {
            match streams::ensure(jetstream, config, self.queue, &self.names).await {
                Ok(ready) => {
                    readiness.set(&self.queue.name, Ok(()));
                    return Ok(ready);
                }
                Err(SetupError::Never(reason)) => return Err(reason),
                Err(SetupError::NotNow(reason)) => {
                    // A domain's servers may be others than the one that is connected to.
                    let could_have = config.nats.js_domain.is_some() || jetstream.client().server_info().jetstream;
                    if !could_have && began.elapsed() > JETSTREAM_STARTS {
                        return Err(format!("JetStream is not enabled on this NATS server ({reason})"));
                    }
                    if said != reason {
                        tracing::warn!(queue = self.queue.name, reason, "the queue cannot be set up yet; trying again");
                        said.clone_from(&reason);
                    }
                    readiness.set(&self.queue.name, Err(reason));
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Starts a lane for each consumer.
    fn pull(&self, ready: &Ready) {
        let Shared { config, jetstream, permits, gauges, running, .. } = self.shared;
        let worker = self.worker(ready);
        self.standby.leave_room(ready.fresh.max_ack_pending.min(ready.due.max_ack_pending));
        let (names, metrics) = (self.names.clone(), self.metrics.clone());
        let burial = Burial { names, dead_letters: config.dead_letters.enabled, metrics };
        let consumers = [(ready.fresh.clone(), false), (ready.due.clone(), true)];
        for (lane, (bound, parked)) in permits.lanes(consumers.len()).into_iter().zip(consumers) {
            let source = Consumer::new(jetstream, bound, burial.clone());
            let (tasks, stop) = (running.calls.clone(), running.stop.clone());
            running.pulling.spawn(Pull { worker: worker.clone(), lane, source, parked, tasks, stop }.run());
        }
        running.pulling.spawn(levels::run(jetstream.clone(), burial, ready.timer, config.nats.manage, running.stop.clone()));
        gauges.add(Gauge {
            jetstream: jetstream.clone(),
            names: self.names.clone(),
            fresh: ready.fresh.clone(),
            functions: self.queue.subjects_carry_function().then(|| self.queue.filter_subject.clone()),
            dead_letters: config.dead_letters.enabled,
            metrics: self.metrics.clone(),
            standby: self.standby.clone(),
            orphans: Arc::default(),
        });
        tracing::info!(
            queue = self.queue.name,
            timer = %ready.timer,
            why = ready.why,
            server = jetstream.client().server_info().version,
            maxInflight = config.max_inflight,
            "Ready"
        );
        ready.advise(&self.queue.name);
    }

    fn worker(&self, ready: &Ready) -> Worker<JetStream, HttpGateway> {
        let Shared { config, jetstream, gateway, lookup, callbacks, gate, tracer, running, worker, .. } = self.shared;
        Worker::new(Parts {
            settle: Settle {
                broker: jetstream.clone(),
                names: self.names.clone(),
                timer: ready.timer,
                confirm_acks: config.confirm_acks,
                dead_letters: config.dead_letters.enabled,
                metrics: self.metrics.clone(),
                standby: self.standby.clone(),
            },
            gateway: gateway.clone(),
            policy: config.retry.clone(),
            lookup: lookup.clone(),
            callbacks: callbacks.clone(),
            gate: gate.clone(),
            metrics: self.metrics.clone(),
            news: News::default(),
            tracer: tracer.clone(),
            name: worker.clone(),
            cut: running.cut.clone(),
        })
    }

    /// Makes the queue ready again when its streams or consumers are gone: a request to a consumer that is not there is
    /// answered by nobody. Returns only what cannot be mended.
    async fn keep_ready(&self, ready: &Ready) -> String {
        let Shared { config, jetstream, readiness, .. } = self.shared;
        let dead = config.dead_letters.enabled.then_some(self.names.dead.as_str());
        loop {
            sleep(LOOK).await;
            let Ok(Some(missing)) = streams::missing(jetstream, &self.names, ready, dead).await else { continue };
            let reason = format!("{missing} is gone");
            tracing::error!(queue = self.queue.name, reason, "the queue is made ready again; what lay in a stream that is gone is lost");
            readiness.set(&self.queue.name, Err(reason));
            if let Err(reason) = self.make_ready().await {
                return reason;
            }
        }
    }
}
