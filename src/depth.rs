//! What the broker knows of the queue's depth: the same figures from every replica, as autoscalers want them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    broker::Broker,
    jetstream::{ApiError, JetStream},
    metrics::{Depth, Metrics},
    names::Names,
    streams::Bound,
};

/// The gauges of every queue that was made ready. Cheap to clone; the clones agree.
#[derive(Debug, Clone, Default)]
pub struct Gauges(Arc<Mutex<Vec<Gauge>>>);

/// Where the depth of one queue is read, and where it is shown.
#[derive(Debug, Clone)]
pub struct Gauge {
    /// The broker.
    pub jetstream: JetStream,
    /// The queue's names.
    pub names: Names,
    /// The consumer of fresh invocations.
    pub fresh: Bound,
    /// Whether there is a stream of dead letters.
    pub dead_letters: bool,
    /// The queue's metrics.
    pub metrics: Metrics,
}

impl Gauges {
    /// Reads one more queue from now on.
    pub fn add(&self, gauge: Gauge) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(gauge);
    }

    /// Brings them all up to date. A queue whose figures cannot be had keeps its last ones, and holds up no other.
    pub async fn refresh(self) {
        let gauges = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(gauges.iter().map(Gauge::refresh)).await;
    }
}

impl Gauge {
    async fn refresh(&self) {
        match read(&self.jetstream, &self.names, &self.fresh, self.dead_letters).await {
            Ok(depth) => self.metrics.set_depth(depth),
            Err(error) => tracing::debug!(queue = self.names.queue, %error, "the queue's depth is not known"),
        }
    }
}

/// Reads the figures. Fails where the broker does not answer one of the questions.
async fn read(jetstream: &JetStream, names: &Names, fresh: &Bound, dead_letters: bool) -> Result<Depth, ApiError> {
    let consumer = consumer(jetstream, &fresh.stream, &fresh.consumer).await?;
    let queue = stream(jetstream, &names.stream).await?;
    let retries = stream(jetstream, &names.retries).await?;
    let due = self::consumer(jetstream, &names.retries, "due").await?;
    let dead = if dead_letters { number(&stream(jetstream, &names.dead).await?, "/state/messages") } else { 0 };
    let pending = number(&consumer, "/num_pending");
    let next = number(&consumer, "/delivered/stream_seq") + 1;
    Ok(Depth {
        pending,
        submitted: number(&queue, "/state/last_seq"),
        parked: number(&retries, "/state/messages").saturating_sub(number(&due, "/num_pending") + number(&due, "/num_ack_pending")),
        dead,
        oldest_pending: if pending > 0 { age(jetstream, names, next).await? } else { None },
    })
}

/// The age of the first message from `sequence` on.
async fn age(jetstream: &JetStream, names: &Names, sequence: u64) -> Result<Option<Duration>, ApiError> {
    let question = json!({ "seq": sequence, "next_by_subj": ">" });
    let answer = match jetstream.api(&format!("STREAM.MSG.GET.{}", names.stream), &question).await {
        Err(ApiError::Refused { .. }) => return Ok(None),
        other => other?,
    };
    let stored = answer.pointer("/message/time").and_then(Value::as_str).and_then(|time| humantime::parse_rfc3339(time).ok());
    Ok(stored.map(|stored: SystemTime| jetstream.now().duration_since(stored).unwrap_or_default()))
}

async fn stream(jetstream: &JetStream, stream: &str) -> Result<Value, ApiError> {
    jetstream.api(&format!("STREAM.INFO.{stream}"), &json!({})).await
}

async fn consumer(jetstream: &JetStream, stream: &str, consumer: &str) -> Result<Value, ApiError> {
    jetstream.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await
}

fn number(answer: &Value, pointer: &str) -> u64 {
    answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
