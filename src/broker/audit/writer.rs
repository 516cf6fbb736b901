//! Writes the audit. A record is put into a bounded buffer and never waited for: what does not fit, or what
//! the broker does not take, is dropped, counted, and told of once.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, Settings, code, if_stream},
        seam::BrokerError,
        streams::desired,
    },
    config::{Audited, Config},
    message::{audit::Record, names::Names},
    observe::metrics::Metrics,
    tasks::error_backoff::ErrorBackoff,
};

/// How many records wait at most. One has some 400 bytes, and 3 KiB with a long history.
const ROOM: usize = 4_096;
/// How many are written at once.
const AT_ONCE: usize = 64;
/// The pause while the broker is away, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often a missing stream is tried to be made.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the last records may take when the process ends.
const FLUSH: Duration = Duration::from_secs(2);

/// Takes the records of a queue. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Lane>>);

#[derive(Debug)]
struct Lane {
    level: Audited,
    names: Names,
    metrics: Metrics,
    /// The stream as it is made where there is none; `None`: it is not made here.
    settings: Option<Settings>,
    records: mpsc::Sender<Entry>,
}

/// A record on its way.
#[derive(Debug)]
struct Entry(Arc<Lane>, Record);

impl Audit {
    /// Whether a call's end is recorded.
    pub fn wants(&self, failed: bool) -> bool {
        self.0.as_ref().is_some_and(|lane| failed || lane.level == Audited::All)
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a record, or drops it where there is no room.
    pub fn note(&self, record: Record) {
        let Some(lane) = &self.0 else { return };
        if lane.records.try_send(Entry(lane.clone(), record)).is_err() {
            lane.metrics.audited("dropped");
        }
    }
}

/// Writes the records of all queues.
#[derive(Debug, Clone)]
pub struct Writer {
    jetstream: JetStream,
    lanes: Vec<Arc<Lane>>,
    entries: Arc<Mutex<mpsc::Receiver<Entry>>>,
}

/// The audits of these queues, in their order, and who writes them, if there is anything to write.
pub fn open<'a>(
    jetstream: &JetStream,
    config: &Config,
    queues: impl Iterator<Item = (Names, &'a Metrics)>,
) -> (Vec<Audit>, Option<Writer>) {
    if config.audit.level == Audited::Nothing {
        return (queues.map(|_| Audit::default()).collect(), None);
    }
    let (records, entries) = mpsc::channel(ROOM);
    let lane = |(names, metrics): (Names, &Metrics)| {
        Arc::new(Lane {
            level: config.audit.level,
            settings: config.nats.manage.then(|| desired::audit(config, &names)),
            names,
            metrics: metrics.clone(),
            records: records.clone(),
        })
    };
    let lanes: Vec<_> = queues.map(lane).collect();
    let audits = lanes.iter().cloned().map(|lane| Audit(Some(lane))).collect();
    (audits, Some(Writer { jetstream: jetstream.clone(), lanes, entries: Arc::new(Mutex::new(entries)) }))
}

/// What one try to write came to.
enum Written {
    Yes,
    /// The broker said no.
    No(String),
    /// It did not answer.
    Silent(String),
}

impl Writer {
    /// Writes what comes, until `over`; then what is left.
    pub async fn run(self, over: CancellationToken) {
        let mut entries = self.entries.lock().await;
        let mut health = Health::default();
        for lane in &self.lanes {
            let _ = self.make(lane, &mut health).await;
        }
        let mut batch = Vec::with_capacity(AT_ONCE);
        while over.run_until_cancelled(entries.recv_many(&mut batch, AT_ONCE)).await.is_some() {
            if over.run_until_cancelled(self.write(&mut batch, &mut health)).await.is_none() {
                break;
            }
        }
        let last = async {
            loop {
                self.write(&mut batch, &mut health).await;
                while let Some(entry) = entries.try_recv().ok().filter(|_| batch.len() < AT_ONCE) {
                    batch.push(entry);
                }
                if batch.is_empty() {
                    return;
                }
            }
        };
        let _ = timeout(FLUSH, last).await;
    }

    /// Writes a batch, however long the broker is away. It keeps what is not written yet, and is empty then.
    async fn write(&self, batch: &mut Vec<Entry>, health: &mut Health) {
        let mut pause = ErrorBackoff::new(PAUSE);
        while !batch.is_empty() {
            let tried = join_all(batch.iter().map(|Entry(lane, record)| self.publish(lane, record))).await;
            let mut silent = Vec::new();
            for (Entry(lane, record), written) in batch.drain(..).zip(tried) {
                match written {
                    Written::Yes => {
                        lane.metrics.audited("written");
                        health.works(&lane);
                    }
                    Written::No(reason) => {
                        lane.metrics.audited("dropped");
                        health.fails(&lane, &reason);
                    }
                    Written::Silent(reason) => silent.push((Entry(lane, record), reason)),
                }
            }
            let Some((Entry(lane, _), reason)) = silent.first() else { return };
            // No answer from a stream that is not there is a no.
            if let Some(no) = self.make(lane, health).await {
                let (gone, rest): (Vec<_>, Vec<_>) =
                    silent.into_iter().partition(|(Entry(other, _), _)| Arc::ptr_eq(other, &no));
                gone.iter().for_each(|(Entry(lane, _), _)| lane.metrics.audited("dropped"));
                batch.extend(rest.into_iter().map(|(entry, _)| entry));
                continue;
            }
            tracing::debug!(queue = lane.names.queue, reason, "records of the audit wait for the broker");
            batch.extend(silent.into_iter().map(|(entry, _)| entry));
            pause.rest().await;
        }
    }

    async fn publish(&self, lane: &Lane, record: &Record) -> Written {
        let subject = record.subject(&lane.names);
        // Strings and numbers are all there is to write, and memory to write to does not fail.
        let payload = serde_json::to_vec(record).unwrap_or_default();
        match self.jetstream.append(&lane.names.audit, &subject, payload.into()).await {
            Ok(_) => Written::Yes,
            Err(BrokerError::Unavailable(reason)) => Written::Silent(reason),
            Err(error) => Written::No(error.to_string()),
        }
    }

    /// Makes the stream of a queue where there is none. Returns the queue where there is none after that,
    /// which is told of.
    async fn make(&self, lane: &Arc<Lane>, health: &mut Health) -> Option<Arc<Lane>> {
        let stream = &lane.names.audit;
        if !matches!(if_stream(self.jetstream.stream(stream).await), Ok(None)) {
            // It is there, or nobody says.
            return None;
        }
        let reason = match &lane.settings {
            None => format!("there is no stream {stream}, and nats_manage=false"),
            Some(_) if !health.may_try(stream) => format!("there is no stream {stream}"),
            Some(settings) => match self.jetstream.make_stream(stream, settings).await {
                Ok(_) => {
                    tracing::info!(stream, "created the stream");
                    return None;
                }
                Err(ApiError::Refused { code: code::NAME_IN_USE, .. }) => return None,
                Err(error) => format!("stream {stream} cannot be created: {error}"),
            },
        };
        health.fails(lane, &reason);
        Some(lane.clone())
    }
}

/// What was said about records that are not written, so that it is said once.
#[derive(Debug, Default)]
struct Health {
    /// The streams that take none.
    ill: Vec<String>,
    /// When each was last tried to be made.
    tried: Vec<(String, Instant)>,
}

impl Health {
    fn may_try(&mut self, stream: &str) -> bool {
        let lately = self.tried.iter().any(|(tried, at)| tried == stream && at.elapsed() < AGAIN);
        if !lately {
            self.tried.retain(|(tried, _)| tried != stream);
            self.tried.push((stream.to_owned(), Instant::now()));
        }
        !lately
    }

    fn works(&mut self, lane: &Lane) {
        let before = self.ill.len();
        self.ill.retain(|stream| *stream != lane.names.audit);
        if self.ill.len() < before {
            tracing::info!(queue = lane.names.queue, "the audit is written again");
        }
    }

    fn fails(&mut self, lane: &Lane, reason: &str) {
        if !self.ill.contains(&lane.names.audit) {
            self.ill.push(lane.names.audit.clone());
            tracing::warn!(
                queue = lane.names.queue,
                reason,
                "the audit is not written; its records are dropped and counted, and calls go on"
            );
        }
    }
}
