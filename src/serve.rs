//! The process: connect, make ready, pull until a signal, drain.

use std::{io, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Readiness},
    callback::Callbacks,
    config::Config,
    connect::{ConnectError, Connection, Link, connect},
    consumer::Consumer,
    depth,
    drain::Running,
    gate::Gate,
    invoke::HttpGateway,
    janitor,
    jetstream::JetStream,
    metrics::Metrics,
    names::Names,
    permits::Permits,
    pull::Pull,
    settle::Settle,
    streams::{self, Ready, SetupError},
    worker::{Parts, Worker},
};

/// How long a server without JetStream is believed to be still starting.
const JETSTREAM_STARTS: Duration = Duration::from_secs(3);
/// The pause before the set-up is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often the consumers are looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How long the last acknowledgements have to leave.
const FLUSH: Duration = Duration::from_secs(1);

/// Why the process cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// No connection can be had.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The queue cannot be set up.
    #[error("{0}")]
    Setup(String),
    /// The account lacks a right, or was taken away. The broker's words name the subject.
    #[error("NATS denies what the worker needs: {0}")]
    Denied(String),
    /// The address for metrics and health cannot be had, or another part of this machine is missing.
    #[error("{0}: {1}")]
    Machine(String, io::Error),
    /// A metric cannot be made.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Serves the queue until `stop` is cancelled, then drains.
///
/// # Errors
/// See [`Fatal`].
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Fatal> {
    let metrics = Metrics::new(&config.queue.name, &config.function_namespace)?;
    let listener = TcpListener::bind(config.listen_addr).await;
    let listener = listener.map_err(|error| Fatal::Machine(format!("listen_addr {}", config.listen_addr), error))?;
    let (refresh, refresher) = watch::channel(None);
    let readiness = Readiness::new();
    let over = CancellationToken::new();
    let pages = tokio::spawn(admin::serve(listener, metrics.clone(), readiness.clone(), refreshing(refresher), over.clone()));
    let names = Names::new(&config.queue.name, &config.queue.stream);
    let served = Service { config: &config, names, metrics, readiness, refresh }.run(stop).await;
    over.cancel();
    let _ = pages.await;
    served
}

/// How `/metrics` brings its gauges up to date, once there is a broker to ask.
type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

fn refreshing(refresher: watch::Receiver<Option<Refresh>>) -> impl Fn() -> BoxFuture<'static, ()> + Clone + Send + Sync + 'static {
    move || match &*refresher.borrow() {
        Some(refresh) => refresh(),
        None => std::future::ready(()).boxed(),
    }
}

struct Service<'a> {
    config: &'a Config,
    names: Names,
    metrics: Metrics,
    readiness: Readiness,
    refresh: watch::Sender<Option<Refresh>>,
}

impl Service<'_> {
    async fn run(&self, stop: CancellationToken) -> Result<(), Fatal> {
        let Some(connected) = stop.run_until_cancelled(connect(&self.config.nats)).await else { return Ok(()) };
        let Connection { client, link, denied } = connected?;
        let jetstream = JetStream::new(client, self.config.nats.js_domain.as_deref(), link.clone());
        let work = async {
            let Some(ready) = stop.run_until_cancelled(self.make_ready(&jetstream)).await else { return Ok(()) };
            self.pull(&jetstream, ready?, link, stop.clone()).await
        };
        tokio::select! {
            done = work => done,
            complaint = first(denied) => Err(Fatal::Denied(complaint)),
        }
    }

    /// Sets the queue up, however long the broker takes to be able to.
    async fn make_ready(&self, jetstream: &JetStream) -> Result<Ready, Fatal> {
        let began = Instant::now();
        let mut said = String::new();
        loop {
            match streams::ensure(jetstream, self.config, &self.names).await {
                Ok(ready) => return Ok(ready),
                Err(SetupError::Never(reason)) => return Err(Fatal::Setup(reason)),
                Err(SetupError::NotNow(reason)) => {
                    if !jetstream.client().server_info().jetstream && began.elapsed() > JETSTREAM_STARTS {
                        return Err(Fatal::Setup(format!("JetStream is not enabled on this NATS server ({reason})")));
                    }
                    if said != reason {
                        tracing::warn!(reason, "the queue cannot be set up yet; trying again");
                        said.clone_from(&reason);
                    }
                    self.readiness.set(Err(reason));
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Pulls until `stop`, then drains.
    async fn pull(&self, jetstream: &JetStream, ready: Ready, link: watch::Receiver<Link>, stop: CancellationToken) -> Result<(), Fatal> {
        let running = Running { stop: stop.clone(), ..Running::default() };
        let worker = self.worker(jetstream, &ready, &running)?;
        let consumers = [(ready.fresh.clone(), false), (ready.due.clone(), true)];
        let lanes = Permits::lanes(self.config.max_inflight, consumers.len());
        for (lane, (bound, parked)) in lanes.into_iter().zip(consumers) {
            let source = Consumer::new(jetstream, bound);
            let pull = Pull { worker: worker.clone(), lane, source, parked, tasks: running.calls.clone(), stop: stop.clone() };
            running.pulling.spawn(pull.run());
        }
        tracing::info!(
            queue = self.names.queue,
            timer = %ready.timer,
            server = jetstream.client().server_info().version,
            maxInflight = self.config.max_inflight,
            "Ready: retries are parked with message schedules, which this server fires itself"
        );
        self.refresh.send_replace(Some(self.depth(jetstream, &ready)));
        self.readiness.set(Ok(()));
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(link) => {}
            () = janitor::run(jetstream, &self.names) => {}
            lost = self.keep_ready(jetstream, &ready) => return Err(lost),
        }
        self.readiness.draining();
        running.drain(self.config.shutdown_grace).await;
        let _ = timeout(FLUSH, jetstream.client().flush()).await;
        Ok(())
    }

    fn worker(&self, jetstream: &JetStream, ready: &Ready, running: &Running) -> Result<Worker<JetStream, HttpGateway>, Fatal> {
        let gateway = HttpGateway::new(&self.config.gateway_url, self.config.upstream_timeout);
        Ok(Worker::new(Parts {
            settle: Settle {
                broker: jetstream.clone(),
                names: self.names.clone(),
                timer: ready.timer,
                confirm_acks: self.config.confirm_acks,
                dead_letters: self.config.dead_letters.enabled,
                metrics: self.metrics.clone(),
            },
            gateway: gateway.map_err(|error| Fatal::Machine("certificates".to_owned(), error))?,
            policy: self.config.retry.clone(),
            callbacks: Callbacks::new(self.config.callback.clone(), self.metrics.clone()),
            gate: Gate::default(),
            metrics: self.metrics.clone(),
            name: worker_name(),
            cut: running.cut.clone(),
        }))
    }

    /// Reads the gauges that the broker knows.
    fn depth(&self, jetstream: &JetStream, ready: &Ready) -> Refresh {
        let (jetstream, names, fresh, metrics) = (jetstream.clone(), self.names.clone(), ready.fresh.clone(), self.metrics.clone());
        let dead_letters = self.config.dead_letters.enabled;
        Arc::new(move || {
            let (jetstream, names, fresh, metrics) = (jetstream.clone(), names.clone(), fresh.clone(), metrics.clone());
            async move {
                match depth::read(&jetstream, &names, &fresh, dead_letters).await {
                    Ok(depth) => metrics.set_depth(depth),
                    Err(error) => tracing::debug!(%error, "the queue's depth is not known"),
                }
            }
            .boxed()
        })
    }

    /// Makes the queue ready again when its streams or consumers are gone: a request to a consumer that is not there is
    /// answered by nobody. Returns only what cannot be mended.
    async fn keep_ready(&self, jetstream: &JetStream, ready: &Ready) -> Fatal {
        let dead = self.config.dead_letters.enabled.then_some(self.names.dead.as_str());
        loop {
            sleep(LOOK).await;
            let Ok(Some(missing)) = streams::missing(jetstream, ready, dead).await else { continue };
            let reason = format!("{missing} is gone");
            tracing::error!(reason, "the queue is made ready again; what lay in a stream that is gone is lost");
            self.readiness.set(Err(reason));
            match self.make_ready(jetstream).await {
                Ok(_) => self.readiness.set(Ok(())),
                Err(fatal) => return fatal,
            }
        }
    }

    /// Keeps readiness in step with the connection.
    async fn follow(&self, mut link: watch::Receiver<Link>) {
        let mut made = link.borrow().made;
        while link.changed().await.is_ok() {
            let now = *link.borrow_and_update();
            if now.made > made {
                made = now.made;
                self.metrics.reconnected();
            }
            self.readiness.set(if now.up { Ok(()) } else { Err("not connected to NATS".to_owned()) });
        }
        std::future::pending().await
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
