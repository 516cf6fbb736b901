//! Carries out what operators asked for: a command writes the record of an operation, any worker takes it up,
//! and another goes on with it when that one dies.
//!
//! ```text
//!  record ─claim─▶ canary? ─▶ batch: its sequences in the record ─▶ each: publish ─PubAck─▶ delete ─┐
//!                    │             ▲                                                                │
//!                    ▼             └───────── counts and cursor, and the next batch ◀───────────────┘
//!                 stopped                                                        └─▶ done
//! ```
//!
//! A record is written by compare-and-set, under a lease that ends soon after its worker. What a worker did
//! with a batch before it died is seen from what is gone: a letter goes only after its message is stored, and
//! the message's id makes a second one harmless.

mod batch;
mod canary;
mod hands;
mod held;
mod work;

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream},
        operations::{Known, Operations},
    },
    message::names::Names,
    observe::metrics::Metrics,
};

pub(crate) use work::Work;

/// How often a worker asks whether there is something new.
const POLL: Duration = Duration::from_secs(1);
/// How often it looks at all operations while some are open: one of them may have lost its worker.
const LOOK: Duration = Duration::from_secs(5);
/// How many a worker carries out at once.
const AT_ONCE: usize = 4;
/// How often it is said why none can be looked for.
const AGAIN: Duration = Duration::from_secs(60);

/// A worker that carries out the operations of a queue.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The broker.
    pub jetstream: JetStream,
    /// The names of the queue.
    pub names: Names,
    /// The worker's name.
    pub name: String,
    /// Whether the stream of retries has a size, and refuses what exceeds it.
    pub sized: bool,
    /// Where operations are counted; a command counts nothing.
    pub metrics: Option<Metrics>,
}

/// Looks for operations, and carries them out, until `stop`.
pub async fn run(worker: Worker, stop: CancellationToken) {
    let store = Operations::new(&worker.jetstream, &worker.names);
    let (mut looks, mut under_way) = (Looks::default(), FuturesUnordered::new());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(POLL) => {}
            Some(()) = under_way.next() => continue,
        }
        if under_way.len() >= AT_ONCE {
            continue;
        }
        match looks.free(&store, worker.metrics.as_ref()).await {
            Ok(Some(known)) => under_way.push(Work::new(&worker, known, &stop).carry_out()),
            Ok(None) => looks.said = None,
            Err(error) => looks.fails(&worker.names.queue, &error),
        }
    }
    // Each lets go of its operation, so that another worker goes on at once.
    while under_way.next().await.is_some() {}
}

/// What was seen of the operations.
#[derive(Debug, Default)]
struct Looks {
    /// The last word that was seen, when all were looked at, and whether some were open then.
    all: Option<(u64, Instant, bool)>,
    /// When it was last said that they cannot be looked at.
    said: Option<Instant>,
}

impl Looks {
    /// An operation that nobody carries out.
    async fn free(
        &mut self,
        store: &Operations,
        metrics: Option<&Metrics>,
    ) -> Result<Option<Known>, ApiError> {
        let Some((revision, latest)) = store.latest().await? else {
            metrics.iter().for_each(|metrics| metrics.set_operations(0, 0));
            return Ok(None);
        };
        let now = store.now();
        if let Some(latest) = latest.filter(|latest| latest.operation.is_free(now)) {
            return Ok(Some(latest));
        }
        let is_due =
            self.all.is_none_or(|(seen, at, open)| at.elapsed() >= LOOK && (open || seen != revision));
        if !is_due {
            return Ok(None);
        }
        let all = store.all().await?;
        let open: Vec<_> = all.iter().filter(|known| known.operation.state.is_open()).collect();
        let left = open.iter().map(|known| known.operation.left()).sum();
        metrics.iter().for_each(|metrics| metrics.set_operations(open.len() as u64, left));
        self.all = Some((revision, Instant::now(), !open.is_empty()));
        Ok(all.into_iter().find(|known| known.operation.is_free(now)))
    }

    fn fails(&mut self, queue: &str, error: &ApiError) {
        // A connection that is down is told of elsewhere.
        let silent = matches!(error, ApiError::Silent(_));
        if !silent && self.said.is_none_or(|said| said.elapsed() >= AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!(queue, %error, "operations cannot be looked for");
        }
    }
}
