//! One queue of the process: makes it ready, pulls from its lanes, looks after it. A queue that is late or
//! loses a stream is made ready (again) while the other queues are served. A queue that cannot be served says
//! why, and is tried again.

mod parts;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::Readiness,
    broker::{
        audit::writer::Audit,
        connect::Denials,
        jetstream::JetStream,
        pauses::Paused,
        poison::Burial,
        standby::Standby,
        streams::{self, Fault, Ready, SetupError},
    },
    config::{Audited, Config, Queue},
    flow::{calls::Calls, gate::Gate, permits::Permits},
    ingress::Ingress,
    message::{call::InHand, names::Names},
    observe::{metrics::Metrics, trace::Tracer},
    outbound::{callback::Callbacks, invoke::HttpGateway, lookup::Lookup},
    run::{calls, lanes::Lanes, operations, pauses, unserved::Unserved},
    stan::{
        denial::{Concern, concern},
        subjects::Subjects,
    },
    tasks::{
        drain::Running,
        error_backoff::ErrorBackoff,
        supervisor::{Part, Supervisor},
    },
    upkeep::{
        depth::{Gauge, Gauges},
        janitor, levels,
        pauses::Follower,
        phantom_acks,
    },
};

/// The time for which a server without JetStream may still be starting.
const JETSTREAM_STARTS: Duration = Duration::from_secs(3);
/// The pause before the set-up is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// The time between two looks for the consumers.
const LOOK: Duration = Duration::from_secs(5);
/// The pause before a queue that cannot be served is tried again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The time after which a served queue is well: its next failure counts as its first.
const WELL: Duration = Duration::from_secs(60);

/// The parts that the queues of a process share.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The broker.
    pub jetstream: JetStream,
    /// The permits to call, for all queues.
    pub permits: Permits,
    /// Finds the annotations that messages do not carry.
    pub lookup: Lookup,
    /// Posts callbacks.
    pub callbacks: Callbacks,
    /// The gate, which may say "not now".
    pub gate: Gate,
    /// Makes traces.
    pub tracer: Tracer,
    /// The readiness of the queues.
    pub readiness: Readiness,
    /// The depths of the queues that were made ready.
    pub gauges: Gauges,
    /// The names of all queues, in the order of the settings.
    pub names: Vec<Names>,
    /// The broker's complaints.
    pub denied: Denials,
    /// The way in by HTTP, if there is one.
    pub ingress: Option<Ingress>,
    /// The queues that cannot be served.
    pub unserved: Unserved,
    /// Keeps the parts running.
    pub supervisor: Supervisor,
    /// The running tasks, and the signals that end them.
    pub running: Running,
    /// This worker's name in histories.
    pub worker: String,
    /// The audits of the queues, in the order of the settings.
    pub audits: Vec<Audit>,
}

/// The service of one queue.
#[derive(Debug)]
pub struct Service<'a> {
    shared: &'a Shared,
    queue: &'a Queue,
    names: Names,
    gateway: HttpGateway,
    metrics: Metrics,
    standby: Standby,
    audit: Audit,
    /// What is paused of it. It outlives a queue that is made ready again.
    paused: Paused,
    calls: Calls<InHand>,
}

impl<'a> Service<'a> {
    /// The service of `queue`, which calls at `gateway` and counts in `metrics`; what waits for the broker
    /// stands by in `standby`, and what ended is told to the `audit`.
    pub fn new(
        shared: &'a Shared,
        queue: &'a Queue,
        gateway: HttpGateway,
        (metrics, standby, audit): (Metrics, Standby, Audit),
    ) -> Self {
        let (names, paused, calls) = (queue.names(), Paused::default(), Calls::default());
        Self { shared, queue, names, gateway, metrics, standby, audit, paused, calls }
    }

    /// Serves until dropped, and tries again whenever that fails; the calls that it started run on, until
    /// they are drained.
    pub async fn keep(&self) -> Infallible {
        let Shared { supervisor, running, .. } = self.shared;
        if let Err(reason) =
            supervisor.keep(Part::Queue, &self.queue.name, &running.stop, || self.run()).await
        {
            self.fails(reason.to_string());
        }
        std::future::pending().await
    }

    async fn run(&self) {
        let mut pause = ErrorBackoff::new(AGAIN);
        loop {
            let began = Instant::now();
            let reason = self.serve().await;
            if began.elapsed() >= WELL {
                pause.reset();
            }
            self.fails(reason);
            pause.rest().await;
        }
    }

    /// Notes why the queue is not served. A process that drains serves none.
    fn fails(&self, reason: String) {
        let Shared { readiness, unserved, running, .. } = self.shared;
        if !running.stop.is_cancelled() {
            readiness.set(&self.queue.name, Err(reason.clone()));
            // If none is served the process ends, and says the same.
            if unserved.add(&self.queue.name, reason.clone()) {
                tracing::error!(
                    queue = self.queue.name,
                    reason,
                    "the queue is not served; it is tried again"
                );
            }
        }
    }

    /// Serves until that cannot go on, and says why. By then it has handed back the pulled messages that were
    /// not begun.
    async fn serve(&self) -> String {
        let stop = self.shared.running.stop.child_token();
        let _over = stop.clone().drop_guard();
        let lanes = TaskTracker::new();
        let (give_up, mut given_up) = mpsc::channel(1);
        let reason = tokio::select! {
            reason = self.serve_until(&stop, &lanes, &give_up) => reason,
            complaint = self.denied() => format!("NATS denies what the worker needs: {complaint}"),
            Some(reason) = given_up.recv() => reason,
        };
        stop.cancel();
        lanes.close();
        lanes.wait().await;
        reason
    }

    async fn serve_until(
        &self,
        stop: &CancellationToken,
        lanes: &TaskTracker,
        give_up: &mpsc::Sender<String>,
    ) -> String {
        let Shared { jetstream, readiness, supervisor, .. } = self.shared;
        let ready = match self.make_ready().await {
            Ok(ready) => ready,
            Err(reason) => return reason,
        };
        self.follower().first(&self.shared.denied).await;
        let desk = calls::desk(self.shared, &self.names, &self.calls);
        desk.learn_all().await;
        calls::keep(self.shared, desk, stop, lanes);
        self.pull(&ready, stop, lanes, give_up);
        let queue = self.queue.name.as_str();
        // Now messages are pulled, and the ingress takes some in.
        readiness.set(queue, Ok(()));
        let janitor = || janitor::run(jetstream, &self.names, ready.timer, &self.metrics);
        let phantom_acks = || phantom_acks::run(jetstream, &self.names, &ready.fresh);
        tokio::select! {
            // Neither part is ever given up.
            _ = supervisor.keep(Part::Janitor, queue, stop, janitor) => std::future::pending().await,
            _ = supervisor.keep(Part::PhantomAcks, queue, stop, phantom_acks) => std::future::pending().await,
            reason = self.keep_ready(&ready) => reason,
        }
    }

    fn follower(&self) -> Follower {
        Follower::new(&self.shared.jetstream, &self.names, &self.paused, &self.metrics)
    }

    /// The broker's next complaint that concerns this queue.
    async fn denied(&self) -> String {
        let Shared { config, names, denied, .. } = self.shared;
        let bridge = config.stan_cluster.as_deref().map(Subjects::of);
        let is_ours =
            |complaint: &str| concern(complaint, names, bridge.as_ref()) == Concern::Queue(&self.queue.name);
        // What it said before was said of the last try.
        denied.from_now_on().first(is_ours).await
    }

    /// Sets the queue up, however long the broker takes to be able to. It is ready when its messages are
    /// pulled.
    async fn make_ready(&self) -> Result<Ready, String> {
        let Shared { config, jetstream, readiness, .. } = self.shared;
        let began = Instant::now();
        let mut said = String::new();
        loop {
            match streams::ensure(jetstream, config, self.queue, &self.names).await {
                Ok(ready) => return Ok(ready),
                Err(SetupError::Never(reason)) => return Err(reason),
                Err(SetupError::NotNow(reason)) => {
                    // A domain's servers may be others than the one that is connected to.
                    let could_have =
                        config.nats.js_domain.is_some() || jetstream.client().server_info().jetstream;
                    if !could_have && began.elapsed() > JETSTREAM_STARTS {
                        return Err(format!("JetStream is not enabled on this NATS server ({reason})"));
                    }
                    if said != reason {
                        tracing::warn!(
                            queue = self.queue.name,
                            reason,
                            "the queue cannot be set up yet; trying again"
                        );
                        said.clone_from(&reason);
                    }
                    readiness.set(&self.queue.name, Err(reason));
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Starts a lane for each consumer.
    fn pull(
        &self,
        ready: &Ready,
        stop: &CancellationToken,
        lanes: &TaskTracker,
        give_up: &mpsc::Sender<String>,
    ) {
        let Shared { config, jetstream, permits, gauges, supervisor, running, .. } = self.shared;
        let worker = self.worker(ready);
        self.standby.leave_room(ready.fresh.max_ack_pending.min(ready.due.max_ack_pending));
        let (names, metrics) = (self.names.clone(), self.metrics.clone());
        let form = self.queue.form.clone();
        let burial = Burial { names, form, dead_letters: config.dead_letters.enabled, metrics };
        let queue = Lanes {
            jetstream: jetstream.clone(),
            burial: burial.clone(),
            permits: permits.clone(),
            due: permits.group(),
            worker,
            calls: running.calls.clone(),
            paused: self.paused.clone(),
            supervisor: supervisor.clone(),
        };
        queue.start(ready, stop, |lane| drop(running.pulling.spawn(lanes.track_future(lane))), give_up);
        self.keep_levels(ready, burial, stop, lanes);
        operations::keep(self.shared, (&self.names, &self.metrics), ready.sized, stop, lanes);
        pauses::keep(self.shared, self.follower(), &self.names.queue, stop, lanes);
        gauges.set(Gauge {
            jetstream: jetstream.clone(),
            names: self.names.clone(),
            form: self.queue.form.clone(),
            fresh: ready.fresh.clone(),
            functions: self.queue.subjects_carry_function().then(|| self.queue.filter_subject.clone()),
            dead_letters: config.dead_letters.enabled,
            metrics: self.metrics.clone(),
            standby: self.standby.clone(),
            paused: self.paused.clone(),
            orphans: Arc::default(),
            audit: config.audit.level != Audited::Nothing,
        });
        self.shared.ingress.iter().for_each(|ingress| ingress.ready(&self.queue.name, ready));
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

    /// Looks which levels have work, and promotes what comes due in them.
    fn keep_levels(&self, ready: &Ready, burial: Burial, stop: &CancellationToken, lanes: &TaskTracker) {
        let Shared { config, jetstream, supervisor, running, .. } = self.shared;
        let levels = {
            let (jetstream, timer, manage) = (jetstream.clone(), ready.timer, config.nats.manage);
            let (supervisor, stop) = (supervisor.clone(), stop.clone());
            move || {
                levels::run(
                    jetstream.clone(),
                    burial.clone(),
                    timer,
                    manage,
                    supervisor.clone(),
                    stop.clone(),
                )
            }
        };
        let (supervisor, queue, stop) = (supervisor.clone(), self.queue.name.clone(), stop.clone());
        running.pulling.spawn(lanes.track_future(async move {
            // This part is never given up.
            let _ = supervisor.keep(Part::Levels, &queue, &stop, levels).await;
        }));
    }

    /// Makes the queue ready again when its streams or consumers are gone: a request to a consumer that is
    /// not there is answered by nobody. Returns only what cannot be mended.
    async fn keep_ready(&self, ready: &Ready) -> String {
        let Shared { config, jetstream, readiness, .. } = self.shared;
        let dead = config.dead_letters.enabled.then_some(self.names.dead.as_str());
        loop {
            sleep(LOOK).await;
            let missing = match streams::first_fault(jetstream, &self.names, ready, dead).await {
                Ok(Some(Fault::Gone(missing))) => missing,
                Ok(Some(Fault::Unusable(reason))) => return reason,
                Ok(None) => {
                    self.shared.unserved.remove(&self.queue.name);
                    continue;
                }
                Err(_) => continue,
            };
            let reason = format!("{missing} is gone");
            tracing::error!(
                queue = self.queue.name,
                reason,
                "the queue is made ready again; what lay in a stream that is gone is lost"
            );
            readiness.set(&self.queue.name, Err(reason));
            if let Err(reason) = self.make_ready().await {
                return reason;
            }
            readiness.set(&self.queue.name, Ok(()));
        }
    }
}
