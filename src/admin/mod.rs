//! The worker's own pages over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! Calls: text, tasks, observe, broker, inbound.

mod connections;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{broker::standby::Standby, observe::metrics::Registry, tasks::supervisor::Supervisor};

/// The longest wait of a scrape for the broker. Prometheus gives up after 10 s by default, and old gauges are
/// better than none.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);

/// The age at which a scrape reads the broker's gauges anew: many scrapers are no load on the broker.
const FRESH: Duration = Duration::from_secs(1);

/// Tells whether this worker takes messages of all its queues now, and if not, why. Clones share one state.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<State>>, Supervisor);

#[derive(Debug)]
struct State {
    draining: bool,
    connected: bool,
    /// The queues, each ready or with the reason why not.
    queues: Vec<(String, Result<(), String>)>,
    /// The bridge, serving or with the reason why not.
    bridge: Result<(), String>,
    /// The messages of each queue that wait for the broker.
    standbys: Vec<Standby>,
}

impl Readiness {
    /// Begins unready: neither the connection nor these queues. A part of `supervisor` that does not run is a
    /// reason, too.
    pub fn of(queues: impl IntoIterator<Item = String>, supervisor: &Supervisor) -> Self {
        let queues = queues.into_iter().map(|queue| (queue, Err("starting".to_owned()))).collect();
        let state = State { draining: false, connected: false, queues, bridge: Ok(()), standbys: Vec::new() };
        Self(Arc::new(Mutex::new(state)), supervisor.clone())
    }

    /// Counts a queue as unready while it takes no more messages because too many wait in `standby`.
    pub fn watch(&self, standby: Standby) {
        self.state().standbys.push(standby);
    }

    /// Says that a queue is ready, or why not. Everybody may read the reason.
    pub fn set(&self, queue: &str, ready: Result<(), String>) {
        if let Some((_, state)) = self.state().queues.iter_mut().find(|(name, _)| name == queue) {
            *state = ready;
        }
    }

    /// Says that the bridge serves its clients, or why not.
    pub fn bridge(&self, ready: Result<(), String>) {
        self.state().bridge = ready;
    }

    /// Says whether the connection to NATS stands.
    pub fn connected(&self, up: bool) {
        self.state().connected = up;
    }

    /// Says that the process drains: it is not ready any more.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// Tells whether this worker takes messages now.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        if state.draining {
            return Err("draining".to_owned());
        }
        if let Some(reason) = self.1.trouble() {
            return Err(reason);
        }
        if !state.connected {
            return Err("not connected to NATS".to_owned());
        }
        let unready = state
            .queues
            .iter()
            .find_map(|(queue, ready)| ready.as_ref().err().map(|reason| format!("queue {queue}: {reason}")));
        if let Some(reason) = unready {
            return Err(reason);
        }
        state.standbys.iter().try_for_each(Standby::ready)?;
        state.bridge.as_ref().map_err(|reason| format!("NATS Streaming: {reason}")).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `until` is cancelled, and then for no more than half a second, whatever the clients do.
/// `refresh` reads the broker's gauges before a page of metrics is made: one at a time, at most one a second,
/// and given up after two.
pub async fn serve(
    listener: Arc<TcpListener>,
    metrics: Registry,
    readiness: Readiness,
    refresh: impl Fn() -> BoxFuture<'static, ()> + Clone + Send + Sync + 'static,
    until: CancellationToken,
) {
    let gauges = Arc::new(Gauges::new(refresh));
    let state = readiness.clone();
    let page = async move || {
        gauges.refresh().await;
        metrics.ready(state.ready().is_ok());
        metrics.part_restarts(state.1.restarted());
        let text = metrics.render();
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
    };
    let pages = Router::new().route("/metrics", get(page)).route("/healthz", get(async || "ok")).route(
        "/readyz",
        get(async move || match readiness.ready() {
            Ok(()) => (StatusCode::OK, "ready".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        }),
    );
    connections::serve(listener, pages, until).await;
}

/// The broker's gauges and when they were last asked for.
struct Gauges<F> {
    read: F,
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl<F: Fn() -> BoxFuture<'static, ()>> Gauges<F> {
    fn new(read: F) -> Self {
        Self { read, asked: tokio::sync::Mutex::new(None) }
    }

    async fn refresh(&self) {
        let refreshed = async {
            let Ok(mut asked) = self.asked.try_lock() else {
                // The figures of a reading under way serve both scrapes.
                drop(self.asked.lock().await);
                return;
            };
            if asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
                // Before the reading, so that the next scrape does not ask at once if this one is given up.
                *asked = Some(Instant::now());
                (self.read)().await;
            }
        };
        // After that time the page shows the old figures.
        let _ = timeout(REFRESH_PATIENCE, refreshed).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{FutureExt, future::join_all};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::sleep,
    };

    use super::*;

    const QUEUE: &str = "faas-request";

    struct Admin {
        address: std::net::SocketAddr,
        readiness: Readiness,
        until: CancellationToken,
        served: JoinHandle<()>,
    }

    async fn admin() -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Registry::new("openfaas-fn").unwrap();
        let readiness = Readiness::of([QUEUE, "other"].map(str::to_owned), &Supervisor::default());
        let until = CancellationToken::new();
        let counted = metrics.clone();
        let refresh = move || {
            counted.reconnected();
            std::future::ready(()).boxed()
        };
        let served = tokio::spawn(serve(listener.into(), metrics, readiness.clone(), refresh, until.clone()));
        Admin { address, readiness, until, served }
    }

    impl Admin {
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{request} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        /// The status line and the last line of the answer.
        async fn check(&self, request: &str, status: &str, body: &str) {
            let answer = self.ask(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn the_worker_is_alive_from_the_start_and_ready_when_it_says_so() {
        let admin = admin().await;
        admin.check("GET /healthz", "200", "ok").await;
        admin.check("GET /readyz", "503", "not connected to NATS").await;
        admin.readiness.connected(true);
        admin.check("GET /readyz", "503", "queue faas-request: starting").await;
        admin.readiness.set(QUEUE, Ok(()));
        admin.check("GET /readyz", "503", "queue other: starting").await;
        admin.readiness.set("other", Ok(()));
        admin.readiness.bridge(Err("starting".to_owned()));
        admin.check("GET /readyz", "503", "NATS Streaming: starting").await;
        admin.readiness.bridge(Ok(()));
        admin.check("GET /readyz", "200", "ready").await;
        admin.readiness.connected(false);
        admin.check("GET /readyz", "503", "not connected to NATS").await;
        admin.readiness.connected(true);
        admin.readiness.set(QUEUE, Err("its stream is gone".to_owned()));
        admin.check("GET /readyz", "503", "queue faas-request: its stream is gone").await;
        admin.readiness.draining();
        admin.readiness.set(QUEUE, Ok(()));
        admin.check("GET /readyz", "503", "draining").await;
        admin.check("GET /healthz", "200", "ok").await;
    }

    #[tokio::test]
    async fn metrics_are_rendered_after_the_brokers_gauges_were_read() {
        let answer = admin().await.ask("GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(answer.contains("\nqueue_worker_nats_reconnect_total 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn the_metrics_say_whether_the_worker_is_ready() {
        let admin = admin().await;
        assert!(admin.ask("GET /metrics").await.contains("\nqueue_worker_ready 0\n"));
        admin.readiness.connected(true);
        for queue in [QUEUE, "other"] {
            admin.readiness.set(queue, Ok(()));
        }
        assert!(admin.ask("GET /metrics").await.contains("\nqueue_worker_ready 1\n"));
    }

    #[tokio::test]
    async fn nothing_else_is_served() {
        let admin = admin().await;
        for path in [
            "/",
            "//",
            "/metric",
            "/healthz/x",
            "/healthz/../metrics",
            "/HEALTHZ",
            "/debug/pprof/",
            "/?/healthz",
        ] {
            admin.check(&format!("GET {path}"), "404", "").await;
            admin.check(&format!("POST {path}"), "404", "").await;
        }
        for path in ["/metrics", "/healthz", "/readyz"] {
            admin.check(&format!("POST {path}"), "405", "").await;
            admin.check(&format!("DELETE {path}"), "405", "").await;
            admin.check(&format!("OPTIONS {path}"), "405", "").await;
            assert!(admin.ask(&format!("PUT {path}/")).await.contains("\r\nallow: GET,HEAD\r\n"), "{path}");
        }
    }

    #[tokio::test]
    async fn a_page_is_found_however_its_path_is_written() {
        let admin = admin().await;
        for path in [
            "/healthz",
            "/healthz/",
            "//healthz",
            "/healthz//",
            "/healthz?x=1",
            "/healthz/?x=/y/",
            "http://worker/healthz/",
        ] {
            admin.check(&format!("GET {path}"), "200", "ok").await;
            admin.check(&format!("HEAD {path}"), "200", "").await;
        }
        admin.check("GET /readyz/", "503", "not connected to NATS").await;
        admin.check("HEAD /readyz/", "503", "").await;
        assert!(admin.ask("GET //metrics/").await.contains("\nqueue_worker_ready 0\n"));
        assert!(admin.ask("HEAD /metrics/").await.ends_with("\r\n\r\n"));
    }

    #[tokio::test]
    async fn clients_that_neither_ask_nor_leave_do_not_hold_the_shutdown() {
        let admin = admin().await;
        let mut silent = TcpStream::connect(admin.address).await.unwrap();
        let mut slow = TcpStream::connect(admin.address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nHo").await.unwrap();
        let mut kept_alive = TcpStream::connect(admin.address).await.unwrap();
        kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nHost: worker\r\n\r\n").await.unwrap();
        kept_alive.readable().await.unwrap();
        admin.until.cancel();
        admin.served.await.unwrap();
        silent.write_all(b"G").await.unwrap();
    }

    fn counted(reads: &Arc<AtomicUsize>, each: Duration) -> impl Fn() -> BoxFuture<'static, ()> + use<> {
        let reads = Arc::clone(reads);
        move || {
            reads.fetch_add(1, Ordering::Relaxed);
            sleep(each).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gauges_are_read_once_a_second_however_many_ask() {
        let reads = Arc::new(AtomicUsize::new(0));
        let gauges = Gauges::new(counted(&reads, Duration::from_millis(100)));
        join_all((0..10).map(|_| gauges.refresh())).await;
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        sleep(FRESH).await;
        join_all((0..10).map(|_| gauges.refresh())).await;
        assert_eq!(reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_does_not_answer_costs_a_scrape_two_seconds() {
        let reads = Arc::new(AtomicUsize::new(0));
        let gauges = Gauges::new(counted(&reads, Duration::from_secs(3_600)));
        let before = Instant::now();
        join_all((0..10).map(|_| gauges.refresh())).await;
        assert_eq!(before.elapsed().as_secs(), REFRESH_PATIENCE.as_secs());
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    }
}
