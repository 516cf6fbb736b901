//! What the broker knows of the queue's depth: the same figures from every replica, as autoscalers want them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::{
    broker::Broker,
    jetstream::{ApiError, JetStream},
    metrics::Depth,
    names::Names,
    streams::Bound,
};

/// Reads the figures.
///
/// # Errors
/// Where the broker does not answer one of the questions.
pub async fn read(jetstream: &JetStream, names: &Names, fresh: &Bound, dead_letters: bool) -> Result<Depth, ApiError> {
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
