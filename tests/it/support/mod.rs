//! What a scenario is made of: a broker, a gateway, workers, a network between them, and patience.

mod answer;
mod cluster;
mod command;
#[cfg(feature = "otel")]
mod collector;
mod door;
mod flood;
mod gateway;
pub mod http;
mod invocation;
mod latch;
mod metrics;
pub mod nats;
mod ports;
pub mod process;
mod proxy;
mod raw;
pub mod stan;
mod stored;
mod tls;
mod trust;
mod worker;

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

pub use answer::Answer;
pub use cluster::Cluster;
#[cfg(feature = "otel")]
pub use collector::{Collector, Span};
pub use door::{Door, Reply};
pub use flood::{Flood, Flooder};
pub use gateway::{Call, End, Gateway};
pub use invocation::Invocation;
pub use latch::Latch;
pub use nats::{DEAD, Nats, QUEUE, RETRIES, binary, count, has_schedules, refuses_to_start};
pub use ports::{free_port, listen};
pub use proxy::{Flow, Hole, Proxy, Way};
pub use raw::Raw;
pub use stored::{Stored, base36};
pub use tls::TlsFront;
pub use trust::{Authority, Identity, Operator};
pub use worker::{Faults, Settings, Worker};

/// How long anything may take before a scenario gives up. It is a safety net, never a measurement.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Polls what no event announces (the broker's state) until it holds; panics with `what` when it never does.
pub async fn eventually(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !probe().await {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        sleep(POLL).await;
    }
}

/// Polls until the probe yields `expected`; panics with what it yielded last when it never does.
pub async fn eventually_is<T: PartialEq + Debug>(what: &str, expected: T, probe: impl AsyncFnMut() -> T) {
    eventually_is_or(what, expected, probe, async || String::new()).await;
}

/// Polls until the probe yields `expected`; panics with what it yielded last, and with what there is to say
/// about it, when it never does.
pub async fn eventually_is_or<T: PartialEq + Debug>(
    what: &str,
    expected: T,
    mut probe: impl AsyncFnMut() -> T,
    mut explain: impl AsyncFnMut() -> String,
) {
    let start = Instant::now();
    loop {
        let seen = probe().await;
        if seen == expected {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: expected {expected:?}, still {seen:?}\n{}",
            explain().await
        );
        sleep(POLL).await;
    }
}

/// Awaits an event, but not for ever.
pub async fn patiently<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// A folder of its own, gone when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file into the folder and returns where it is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
