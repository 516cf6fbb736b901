//! Stores what a request asks for: in the queue, or in its stream of retries until its time has come.

use std::time::{Duration, SystemTime};

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::{Entry, Refusal, entry::entry, route::route};
use crate::{
    broker::{
        jetstream::JetStream,
        seam::{Broker, BrokerError},
    },
    config::Queue,
    message::{
        arrival::Arrival,
        header::size,
        names::Id,
        record::Record,
        successor::{MOST_HEADERS, Message},
        timer::Timer,
    },
};

/// What was stored, as its caller is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub(super) call_id: String,
    pub(super) sequence: u64,
    /// Whether it was stored before, under the same key.
    pub(super) duplicate: bool,
    /// How long the broker took.
    #[serde(skip)]
    pub(super) took: Duration,
}

/// What a request has a queue store if it is not put off, or the reason why it is refused: routes and headers
/// without a connection.
///
/// # Errors
/// What a caller is told.
pub fn record(request: Request<Bytes>, queues: &[Queue], now: SystemTime) -> Result<Record, String> {
    let (head, body) = request.into_parts();
    /// As the setting has it unless another is set.
    const LONGEST: Duration = Duration::from_secs(720 * 3_600);
    let asked = || {
        let route = route(&head.method, &head.uri, queues)?;
        let entry = entry(&route, &head.headers, body, false, LONGEST, now, Uuid::nil())?;
        Ok(fresh(route.queue, entry))
    };
    asked().map_err(|refusal: Refusal| refusal.text)
}

/// Stores an entry. It is durable when this returns.
pub(super) async fn store(
    jetstream: &JetStream,
    queue: &Queue,
    timer: Timer,
    entry: Entry,
) -> Result<Stored, Refusal> {
    let call_id = entry.call_id.clone();
    let record = match entry.due {
        None => fresh(queue, entry),
        Some(due) => later(jetstream, queue, timer, entry, due)?,
    };
    // NATS refuses it in words that are not for callers.
    if size(&record.headers) > MOST_HEADERS {
        return Err(too_large());
    }
    let told = jetstream.enqueue(record).await.map_err(|error| match error {
        BrokerError::TooLarge => too_large(),
        BrokerError::Unavailable(_) | BrokerError::Refused(_) => {
            tracing::debug!(queue = queue.name, %error, "a request was not stored");
            Refusal::not_now("the broker does not store it now")
        }
    })?;
    Ok(Stored { call_id, sequence: told.0, duplicate: told.1, took: Duration::ZERO })
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "it is larger than the broker takes")
}

fn fresh(queue: &Queue, entry: Entry) -> Record {
    Record {
        stream: queue.stream.clone(),
        subject: entry.subject,
        id: format!("ingress-{:032x}", entry.key.number(&queue.name)),
        headers: entry.headers,
        payload: entry.payload,
    }
}

/// A clone of a message that never was in the queue: it waits as a retry does, with no attempt made. Its age
/// counts from its due time.
fn later(
    jetstream: &JetStream,
    queue: &Queue,
    timer: Timer,
    entry: Entry,
    due: SystemTime,
) -> Result<Record, Refusal> {
    let number = entry.key.number(&queue.name);
    let (first, second) = ((number >> 64) as u64, number as u64);
    let arrival = Arrival {
        subject: entry.subject,
        headers: entry.headers,
        payload: entry.payload,
        stream: queue.stream.as_str().into(),
        sequence: first,
        stored: jetstream.now(),
    };
    let mut message = Message::of(&queue.form, &arrival, false);
    message.envelope.id = Id { sequence: first, stored: second };
    message.envelope.not_before = Some(due);
    let invocation = message
        .invocation()
        .map_err(|undecodable| Refusal::new(StatusCode::BAD_REQUEST, "malformed", undecodable.reason))?;
    message.identify(&invocation.function, Some(&entry.call_id));
    let (now, most) = (jetstream.now(), jetstream.max_payload());
    message.clone_due(&message.envelope, &queue.names(), timer, due, now, most).map_err(|_| too_large())
}
