//! Stores what a request asks for: in the queue, or in its stream of retries until its time has come.

use std::time::{Duration, SystemTime};

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::{Entry, Refusal, entry::entry, keys::Hash, route::route};
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

/// What was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) call_id: String,
    pub(super) sequence: u64,
    /// Whether it was stored before, under the same key.
    pub(super) duplicate: bool,
    /// How long the broker took.
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
    let told = jetstream.enqueue(&record).await.map_err(|error| match error {
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

/// What ids are made of.
pub(super) fn hash(queue: &str, text: &str) -> Hash {
    let hash = digest(&SHA256, format!("{queue}\n{text}").as_bytes());
    hash.as_ref().try_into().unwrap_or_default()
}

fn fresh(queue: &Queue, entry: Entry) -> Record {
    let id =
        hash(&queue.name, &entry.key).iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    Record {
        stream: queue.stream.clone(),
        subject: entry.subject,
        id: format!("ingress-{id}"),
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
    let hash = hash(&queue.name, &entry.key);
    let number = |at: usize| {
        let bytes = hash.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u64::from_be_bytes(bytes)
    };
    let arrival = Arrival {
        subject: entry.subject,
        headers: entry.headers,
        payload: entry.payload,
        stream: queue.stream.clone(),
        sequence: number(0),
        stored: jetstream.now(),
    };
    let mut message = Message::of(&queue.form, &arrival, false);
    message.envelope.id = Id { sequence: number(0), stored: number(8) };
    message.envelope.not_before = Some(due);
    let invocation = message
        .invocation()
        .map_err(|undecodable| Refusal::new(StatusCode::BAD_REQUEST, "malformed", undecodable.reason))?;
    message.identify(&invocation.function, Some(&entry.call_id));
    let (now, most) = (jetstream.now(), jetstream.max_payload());
    message.clone_due(&message.envelope, &queue.names(), timer, due, now, most).map_err(|_| too_large())
}
