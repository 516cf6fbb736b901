//! Looks after parked retries whose schedule did not fire (a server's bug, a downgrade): a holder that is overdue by a minute
//! is moved to where its schedule would have sent it. Each round also asks for the broker's time, which the clock learns from.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    broker::Broker,
    jetstream::{ApiError, JetStream, own_headers},
    names::{self, Names},
};

/// How often holders are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// A holder may be this late: then its schedule did not fire.
const GRACE: Duration = Duration::from_secs(60);
/// How many holders one round looks at; the next goes on behind them.
const ROUND: usize = 200;
/// The most bytes that one round reads.
const BYTES: usize = 8 << 20;

/// Runs until dropped.
pub async fn run(jetstream: &JetStream, names: &Names) {
    let mut from = 1;
    loop {
        sleep(PERIOD).await;
        match round(jetstream, names, jetstream.now(), &mut from).await {
            Ok(0) => {}
            Ok(moved) => tracing::warn!(moved, "parked retries were overdue and have been moved to the due ones"),
            Err(error) => tracing::debug!(%error, "overdue retries were not looked for"),
        }
    }
}

/// Moves the overdue among the next holders, from the sequence `from` on; returns how many.
async fn round(jetstream: &JetStream, names: &Names, now: SystemTime, from: &mut u64) -> Result<usize, ApiError> {
    let stream = jetstream.api(&format!("STREAM.INFO.{}", names.retries), &json!({})).await?;
    if stream.pointer("/state/messages").and_then(Value::as_u64) == Some(0) {
        return Ok(0);
    }
    let (mut moved, mut bytes) = (0, 0);
    // A round that comes to the end leaves the next one to begin anew.
    let mut next = std::mem::replace(from, 1);
    for _ in 0..ROUND {
        let question = json!({ "seq": next, "next_by_subj": names.holder_subjects() });
        let answer = match jetstream.api(&format!("STREAM.MSG.GET.{}", names.retries), &question).await {
            Ok(answer) => answer,
            Err(ApiError::Refused { .. }) => return Ok(moved),
            Err(error) => return Err(error),
        };
        let Some(holder) = answer.get("message").and_then(Holder::read) else { return Ok(moved) };
        next = holder.sequence + 1;
        bytes += holder.payload.len();
        if holder.due.is_some_and(|due| due + GRACE < now) {
            let subject = holder.subject.clone();
            match holder.fire(jetstream, names).await {
                Ok(fired) => moved += usize::from(fired),
                // One that the broker does not let go must not stand before all others.
                Err(error) => tracing::warn!(subject, %error, "an overdue retry cannot be moved"),
            }
        }
        if bytes > BYTES {
            break;
        }
    }
    *from = next;
    Ok(moved)
}

/// A parked retry, as it is stored.
struct Holder {
    subject: String,
    sequence: u64,
    headers: HeaderMap,
    payload: Bytes,
    due: Option<SystemTime>,
}

impl Holder {
    fn read(message: &Value) -> Option<Self> {
        let bytes = |name: &str| message.get(name).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
        let headers = own_headers(&bytes("hdrs").unwrap_or_default());
        let due = headers.get(names::DUE).and_then(|due| humantime::parse_rfc3339(due.as_str()).ok());
        Some(Self {
            subject: message.get("subject")?.as_str()?.to_owned(),
            sequence: message.get("seq")?.as_u64()?,
            headers,
            payload: bytes("data").unwrap_or_default().into(),
            due,
        })
    }

    async fn fire(self, jetstream: &JetStream, names: &Names) -> Result<bool, ApiError> {
        let Some(target) = names.target_of(&self.subject) else { return Ok(false) };
        Ok(jetstream.fire(&names.retries, &self.subject, &target, self.sequence, self.headers, self.payload).await?)
    }
}
