//! The process: it connects, serves every queue until a signal comes or no queue can be served any more, and
//! drains.

use std::{io, net::SocketAddr, sync::Arc};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    admin::{self, Readiness},
    api::Api,
    broker::{
        audit::writer as audit,
        connect::{ConnectError, Connection, Link, connect},
        jetstream::JetStream,
        seam::Broker,
        standby::Standby,
    },
    config::{Config, Queue},
    flow::{gate::Gate, memory::Room, permits::Permits},
    inbound::listen::listen,
    ingress::Ingress,
    observe::{
        metrics::{Metrics, Registry},
        trace::Tracer,
    },
    outbound::{
        callback::{Callbacks, HttpPost},
        invoke::{HttpGateway, NoTarget, Trust, Untrustworthy},
        lookup::Lookup,
    },
    run::{
        container::room_for_messages,
        queue::{Service, Shared},
        service,
        signals::Signals,
        unserved::Unserved,
    },
    stan::{
        Channel, Open,
        denial::{Concern, concern},
        subjects::Subjects,
    },
    tasks::{
        drain::{FLUSH, Running, Told},
        renewed::FileError,
        supervisor::{Attendants, Part, Supervisor},
    },
    upkeep::depth::Gauges,
};

/// The reason why the process cannot work.
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
    /// A part of the process cannot be kept running.
    #[error("{0}")]
    Part(String),
    /// The address for metrics and health cannot be had, or another part of this machine is missing.
    #[error("{0}: {1}")]
    Machine(String, io::Error),
    /// The file of a secret cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The authorities of the gateway's certificate cannot be used.
    #[error(transparent)]
    Trust(#[from] Untrustworthy),
    /// A queue's target cannot be called.
    #[error(transparent)]
    Target(#[from] NoTarget),
    /// A metric cannot be made.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Serves the queues until a signal ends it, or no queue can be served any more; then drains.
///
/// # Errors
/// See [`Fatal`].
pub async fn serve(config: Config, supervisor: Supervisor, signals: Signals) -> Result<(), Fatal> {
    let registry = Registry::new(&config.function_namespace)?;
    let metrics = |queue: &Queue| {
        let metrics = registry.queue(&queue.name)?;
        Ok(if queue.request.is_none() { metrics } else { metrics.without_namespaces() })
    };
    let metrics: Vec<Metrics> =
        config.queues.iter().map(metrics).collect::<Result<_, prometheus::Error>>()?;
    let callbacks = Callbacks {
        post: Arc::new(HttpPost::new(config.callback.clone(), &supervisor)?),
        attempts: config.callback.attempts,
        max_body: config.callback.max_body,
        room: Room::of(config.callback.memory),
    };
    let trust = Trust::read(config.gateway_ca_file.as_deref())?;
    let listener = open("listen_addr", config.listen_addr)?;
    let way_in = config.ingress.as_ref().map(|ingress| open("ingress_addr", ingress.addr)).transpose()?;
    let api = config.api.as_ref().map(|api| open("api_addr", api.addr)).transpose()?;
    let readiness = Readiness::of(config.queues.iter().map(|queue| queue.name.clone()), &supervisor);
    let of_queue = |(queue, metrics): (&Queue, &Metrics)| {
        Standby::new(&queue.name, metrics.clone(), config.queues.len())
    };
    let standbys: Vec<_> = config.queues.iter().zip(&metrics).map(of_queue).collect();
    standbys.iter().cloned().for_each(|standby| readiness.watch(standby));
    let gauges = Gauges::default();
    let (told, mut attendants) = (signals.told(), Attendants::new(supervisor));
    let signals = Arc::new(signals);
    attendants.keep(Part::Signals, move || signals.clone().count());
    attendants.keep_to_its_end(Part::Pages, {
        let (registry, readiness, gauges) = (registry.clone(), readiness.clone(), gauges.clone());
        let over = attendants.over.clone();
        let refresh = move || gauges.clone().refresh().boxed();
        move || {
            admin::serve(listener.clone(), registry.clone(), readiness.clone(), refresh.clone(), over.clone())
        }
    });
    let tracer = Tracer::new(config.tracing.as_ref(), &worker_name());
    let process = Process {
        registry,
        metrics,
        standbys,
        callbacks,
        trust,
        readiness,
        gauges,
        tracer: tracer.clone(),
        way_in,
        api,
    };
    // In boxes, here and below: what a deep stack touches once stays in memory.
    let served = Box::pin(process.run(config, &mut attendants, &told)).await;
    tracer.finish().await;
    attendants.dismiss().await;
    served
}

/// Listens at the address of a setting.
fn open(setting: &str, address: SocketAddr) -> Result<Arc<TcpListener>, Fatal> {
    let failed = |error| Fatal::Machine(format!("{setting} {address}"), error);
    Ok(Arc::new(listen(address).map_err(failed)?))
}

struct Process {
    registry: Registry,
    /// Of each queue, in the order of the settings.
    metrics: Vec<Metrics>,
    /// Likewise.
    standbys: Vec<Standby>,
    callbacks: Callbacks,
    trust: Trust,
    readiness: Readiness,
    gauges: Gauges,
    tracer: Tracer,
    /// Where the ingress listens, if there is one.
    way_in: Option<Arc<TcpListener>>,
    /// Where the API listens, if there is one.
    api: Option<Arc<TcpListener>>,
}

impl Process {
    async fn run(self, config: Config, attendants: &mut Attendants, told: &Told) -> Result<(), Fatal> {
        let gateways = self.gateways(&config)?;
        let (supervisor, running) = (attendants.supervisor.clone(), Running::default());
        let lookup = Lookup::new(
            &config.gateway_url,
            &self.trust,
            config.function_lookup.as_ref(),
            self.registry.clone(),
            &supervisor,
        );
        self.keep_api(&config, &lookup, &supervisor, &running)?;
        let Connection { client, link, denied, keeper } = tokio::select! {
            connected = connect(&config.nats) => connected?,
            reason = attendants.given_up() => return Err(Fatal::Part(reason)),
            () = told.times(1) => return Ok(()),
        };
        let keeper = Arc::new(Mutex::new(keeper));
        attendants.keep(Part::Client, move || {
            let keeper = Arc::clone(&keeper);
            async move { match keeper.lock().await.keep().await {} }
        });
        attendants.keep(Part::Link, {
            let (link, readiness, registry) = (link.clone(), self.readiness.clone(), self.registry.clone());
            move || follow(link.clone(), readiness.clone(), registry.clone())
        });
        let jetstream = JetStream::new(client, config.nats.js_domain.as_deref(), link);
        let room = config.max_inflight_bytes.unwrap_or_else(room_for_messages);
        let permits = Permits::within(config.max_inflight, room, jetstream.max_payload());
        let way_in =
            |settings| Ingress::new(settings, &config.queues, jetstream.clone(), self.registry.clone());
        let queues = config.queues.iter().map(Queue::names).zip(&self.metrics);
        let (audits, writer) = audit::open(&jetstream, &config, queues);
        if let Some(writer) = writer {
            let over = attendants.over.clone();
            attendants.keep_to_its_end(Part::Audit, move || writer.clone().run(over.clone()));
        }
        let shared = Shared {
            ingress: config.ingress.as_ref().map(way_in).transpose()?,
            jetstream,
            gate: Gate::of(&permits),
            permits,
            lookup,
            callbacks: self.callbacks.clone(),
            tracer: self.tracer.clone(),
            readiness: self.readiness.clone(),
            gauges: self.gauges.clone(),
            names: config.queues.iter().map(Queue::names).collect(),
            denied,
            unserved: Unserved::of(config.queues.len()),
            supervisor,
            running,
            worker: worker_name(),
            audits,
            config,
        };
        Box::pin(self.work(&shared, gateways, attendants, told)).await
    }

    /// Where each queue's messages go: to the gateway, on connections that the queues share, or to a target.
    fn gateways(&self, config: &Config) -> Result<Vec<HttpGateway>, Fatal> {
        let (limit, room) = (config.upstream_timeout, &self.callbacks.room);
        let certificates = |error| Fatal::Machine("certificates".to_owned(), error);
        let gateway =
            HttpGateway::new(&config.gateway_url, &self.trust, limit, room).map_err(certificates)?;
        let of = |queue: &Queue| match (queue.form.target(), &queue.request) {
            (Some(target), Some(request)) => {
                Ok(HttpGateway::to_target(target.url().origin(), request, &self.trust, limit, room)?)
            }
            _ => Ok(gateway.clone()),
        };
        config.queues.iter().map(of).collect()
    }

    /// Opens the API if there is to be one, and keeps it open until it is drained. It waits for no
    /// connection: it has one of its own, and says so while there is none.
    fn keep_api(
        &self,
        config: &Config,
        lookup: &Lookup,
        supervisor: &Supervisor,
        running: &Running,
    ) -> Result<(), FileError> {
        let (Some(settings), Some(listener)) = (&config.api, self.api.clone()) else { return Ok(()) };
        let api = Api::new(settings, config, lookup.clone())?;
        let (supervisor, stop) = (supervisor.clone(), running.stop.clone());
        running.pulling.spawn(async move {
            let serve = || api.clone().serve(listener.clone(), stop.clone());
            // The API is never given up.
            let _ = supervisor.keep(Part::Api, "", &stop, serve).await;
        });
        Ok(())
    }

    /// Serves until told to stop, or nothing can be served any more, then drains.
    async fn work(
        &self,
        shared: &Shared,
        gateways: Vec<HttpGateway>,
        attendants: &mut Attendants,
        told: &Told,
    ) -> Result<(), Fatal> {
        let queues = shared.config.queues.iter().zip(&self.metrics).zip(&self.standbys).zip(gateways);
        let services: Vec<_> = queues
            .zip(&shared.audits)
            .map(|((((queue, metrics), standby), gateway), audit)| {
                Service::new(shared, queue, gateway, (metrics.clone(), standby.clone(), audit.clone()))
            })
            .collect();
        let mut serving: FuturesUnordered<_> = services.iter().map(Service::keep).collect();
        keep_bridge(shared, &self.registry);
        keep_ingress(shared, self.way_in.as_ref());
        service::keep(shared, &self.metrics);
        let end = tokio::select! {
            () = told.times(1) => Ok(()),
            reason = shared.unserved.all() => Err(Fatal::Setup(reason)),
            complaint = denied_to_all(shared) => Err(Fatal::Denied(complaint)),
            reason = attendants.given_up() => Err(Fatal::Part(reason)),
            // No part ends by itself.
            Some(never) = serving.next() => match never {},
        };
        if let Err(reason) = &end {
            tracing::error!("nothing can be served, the worker drains and ends: {reason}");
        }
        self.readiness.draining();
        // The calls that still run want the broker's time when they are parked, and the streams.
        tokio::select! {
            () = shared.running.drain(shared.config.shutdown_grace, told) => {}
            Some(never) = serving.next() => match never {},
        }
        let _ = timeout(FLUSH, shared.jetstream.client().flush()).await;
        end
    }
}

/// Opens the bridge if there is to be one, and keeps it open until it is drained.
fn keep_bridge(shared: &Shared, registry: &Registry) {
    let Shared { config, jetstream, readiness, names, denied, running, supervisor, .. } = shared;
    let Some(cluster) = &config.stan_cluster else { return };
    readiness.bridge(Err("starting".to_owned()));
    let desk = Open {
        jetstream: jetstream.clone(),
        cluster: cluster.clone(),
        channels: config
            .queues
            .iter()
            .filter(|queue| queue.request.is_none())
            .map(|queue| Channel { subject: queue.name.clone(), stream: queue.stream.clone() })
            .collect(),
        names: names.clone(),
        denied: denied.clone(),
        metrics: registry.clone(),
        readiness: readiness.clone(),
        running: running.clone(),
    };
    let (supervisor, stop) = (supervisor.clone(), running.stop.clone());
    running.pulling.spawn(async move {
        // The bridge is never given up.
        let _ = supervisor.keep(Part::Bridge, "", &stop, || desk.clone().keep()).await;
    });
}

/// Opens the way in by HTTP if there is to be one, and keeps it open until it is drained.
fn keep_ingress(shared: &Shared, listener: Option<&Arc<TcpListener>>) {
    let (Some(ingress), Some(listener)) = (shared.ingress.clone(), listener.cloned()) else { return };
    let (supervisor, stop) = (shared.supervisor.clone(), shared.running.stop.clone());
    shared.running.pulling.spawn(async move {
        let serve = || ingress.clone().serve(listener.clone(), stop.clone());
        // The ingress is never given up.
        let _ = supervisor.keep(Part::Ingress, "", &stop, serve).await;
    });
}

/// Tells readiness and metrics about the connection, for as long as there is one.
async fn follow(mut link: watch::Receiver<Link>, readiness: Readiness, registry: Registry) {
    // The first time is no reconnect.
    let mut made = link.borrow().made.max(1);
    loop {
        let now = *link.borrow_and_update();
        if now.made > made {
            made = now.made;
            registry.reconnected();
        }
        readiness.connected(now.up);
        if link.changed().await.is_err() {
            return readiness.connected(false);
        }
    }
}

/// The first complaint of the broker's that concerns all queues.
async fn denied_to_all(Shared { config, names, denied, .. }: &Shared) -> String {
    let bridge = config.stan_cluster.as_deref().map(Subjects::of);
    denied.first(|complaint| concern(complaint, names, bridge.as_ref()) == Concern::All).await
}

/// The pod's name, else the machine's, in what a history entry may hold.
fn worker_name() -> String {
    let name = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .unwrap_or_default();
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(63).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
