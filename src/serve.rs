//! The process: connect, serve every queue until a signal, drain.

use std::{io, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Readiness, listen::listen},
    callback::{Callbacks, HttpPost, SecretsError},
    config::{Config, Queue},
    connect::{ConnectError, Connection, Link, connect},
    depth::Gauges,
    drain::{Running, Told},
    gate::Gate,
    invoke::{HttpGateway, Trust, Untrustworthy},
    jetstream::JetStream,
    lookup::Lookup,
    metrics::{Exposition, Metrics},
    permits::Permits,
    service::{Service, Shared},
    stan::{Bridge, Channel},
    standby::Standby,
    trace::Tracer,
};

/// How long the last acknowledgements have to leave.
pub const FLUSH: Duration = Duration::from_secs(1);

/// Why the process cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// No connection can be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A queue cannot be set up.
    #[error("{0}")]
    Setup(String),
    /// The account lacks a right, or was taken away. The broker's words name the subject.
    #[error("NATS denies what the worker needs: {0}")]
    Denied(String),
    /// The address for metrics and health cannot be had, or another part of this machine is missing.
    #[error("{0}: {1}")]
    Machine(String, io::Error),
    /// The secrets that callbacks are signed with cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The authorities of the gateway's certificate cannot be used.
    #[error(transparent)]
    Trust(#[from] Untrustworthy),
    /// A metric cannot be made.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Serves the queues until `told` to end, then drains.
///
/// # Errors
/// See [`Fatal`].
pub async fn serve(config: Config, told: Told) -> Result<(), Fatal> {
    let exposition = Exposition::new(&config.function_namespace)?;
    let metrics: Vec<Metrics> = config.queues.iter().map(|queue| exposition.queue(&queue.name)).collect::<Result<_, _>>()?;
    let callbacks = Callbacks {
        post: Arc::new(HttpPost::new(config.callback.clone())?),
        attempts: config.callback.attempts,
        max_body: config.callback.max_body,
    };
    let trust = Trust::read(config.gateway_ca_file.as_deref())?;
    let listener = listen(config.listen_addr).map_err(|error| Fatal::Machine(format!("listen_addr {}", config.listen_addr), error))?;
    let readiness = Readiness::of(config.queues.iter().map(|queue| queue.name.clone()));
    let of_queue = |(queue, metrics): (&Queue, &Metrics)| Standby::new(&queue.name, metrics.clone(), config.queues.len());
    let standbys: Vec<_> = config.queues.iter().zip(&metrics).map(of_queue).collect();
    standbys.iter().cloned().for_each(|standby| readiness.watch(standby));
    let gauges = Gauges::default();
    let over = CancellationToken::new();
    let refresh = {
        let gauges = gauges.clone();
        move || gauges.clone().refresh().boxed()
    };
    let pages = tokio::spawn(admin::serve(listener, exposition.clone(), readiness.clone(), refresh, over.clone()));
    let tracer = Tracer::new(config.tracing.as_ref(), &worker_name());
    let process = Process { exposition, metrics, standbys, callbacks, trust, readiness, gauges, tracer: tracer.clone() };
    let served = process.run(config, told).await;
    tracer.finish().await;
    over.cancel();
    let _ = pages.await;
    served
}

struct Process {
    exposition: Exposition,
    /// Of each queue, in the order of the settings.
    metrics: Vec<Metrics>,
    /// Likewise.
    standbys: Vec<Standby>,
    callbacks: Callbacks,
    trust: Trust,
    readiness: Readiness,
    gauges: Gauges,
    tracer: Tracer,
}

impl Process {
    async fn run(self, config: Config, told: Told) -> Result<(), Fatal> {
        let Connection { client, link, denied, keeper } = tokio::select! {
            connected = connect(&config.nats) => connected?,
            () = told.times(1) => return Ok(()),
        };
        let gateway = HttpGateway::new(&config.gateway_url, &self.trust, config.upstream_timeout);
        let shared = Shared {
            jetstream: JetStream::new(client, config.nats.js_domain.as_deref(), link.clone()),
            permits: Permits::new(config.max_inflight),
            gateway: gateway.map_err(|error| Fatal::Machine("certificates".to_owned(), error))?,
            lookup: Lookup::new(&config.gateway_url, &self.trust, config.function_lookup.as_ref(), self.exposition.clone()),
            callbacks: self.callbacks.clone(),
            gate: Gate::default(),
            tracer: self.tracer.clone(),
            readiness: self.readiness.clone(),
            gauges: self.gauges.clone(),
            running: Running::default(),
            worker: worker_name(),
            config,
        };
        tokio::select! {
            done = self.work(&shared, link, &told) => done,
            complaint = first(denied) => Err(Fatal::Denied(complaint)),
            never = keeper.keep() => match never {},
        }
    }

    /// Serves until told to stop, then drains.
    async fn work(&self, shared: &Shared, link: watch::Receiver<Link>, told: &Told) -> Result<(), Fatal> {
        let queues = shared.config.queues.iter().zip(&self.metrics).zip(&self.standbys);
        let services: Vec<_> =
            queues.map(|((queue, metrics), standby)| Service::new(shared, queue, metrics.clone(), standby.clone())).collect();
        let mut serving: FuturesUnordered<_> = services.iter().map(Service::run).collect();
        tokio::select! {
            () = told.times(1) => {}
            () = self.follow(link) => {}
            Some(reason) = serving.next() => return Err(Fatal::Setup(reason)),
            reason = self.bridge(shared) => return Err(Fatal::Setup(reason)),
        }
        self.readiness.draining();
        // The calls that still run want the broker's time when they are parked, and the streams.
        let keep_serving = async {
            while serving.next().await.is_some() {}
            std::future::pending().await
        };
        tokio::select! {
            () = shared.running.drain(shared.config.shutdown_grace, told) => {}
            () = keep_serving => {}
        }
        let _ = timeout(FLUSH, shared.jetstream.client().flush()).await;
        Ok(())
    }

    /// Opens the bridge if there is to be one; it runs until it is drained. Returns only when it cannot be opened, and why.
    async fn bridge(&self, Shared { config, jetstream, running, .. }: &Shared) -> String {
        let Some(cluster) = &config.stan_cluster else { return std::future::pending().await };
        self.readiness.bridge(Err("starting".to_owned()));
        let channels = config.queues.iter().map(|queue| Channel { subject: queue.name.clone(), stream: queue.stream.clone() });
        match Bridge::open(jetstream, cluster, channels.collect(), &self.exposition).await {
            Ok(bridge) => {
                running.pulling.spawn(bridge.run(running.stop.clone(), running.cut.clone()));
                self.readiness.bridge(Ok(()));
                std::future::pending().await
            }
            Err(error) => format!("NATS Streaming: {error}"),
        }
    }

    /// Keeps readiness in step with the connection.
    async fn follow(&self, mut link: watch::Receiver<Link>) {
        // The first time is no reconnect.
        let mut made = link.borrow().made.max(1);
        loop {
            let now = *link.borrow_and_update();
            if now.made > made {
                made = now.made;
                self.exposition.reconnected();
            }
            self.readiness.connected(now.up);
            if link.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

/// The first complaint of the broker's about what it denies.
async fn first(mut complaints: watch::Receiver<Option<String>>) -> String {
    match complaints.wait_for(Option::is_some).await {
        Ok(text) => text.clone().unwrap_or_default(),
        Err(_closed) => std::future::pending().await,
    }
}

/// The pod's name, else the machine's, in what a history entry may hold.
fn worker_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok()).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(63).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
