//! `queue-worker invoke`: queues a call of a function, as a gateway would, and may wait for its end.

use std::{io::Read as _, time::Duration};

use http::Request;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    cli::{Invoking, Output},
    desk::Desk,
    end::{Failure, cannot},
    out,
};
use crate::{
    broker::jetstream::Stored,
    config::Queue,
    ingress::record,
    message::{
        call::is_of,
        decode::FunctionName,
        header,
        names::{self, Names},
    },
};

/// How often a call that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Queues the call.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, asked: &Invoking) -> Result<(), Failure> {
    let meant: Vec<_> = desk.queues()?.into_iter().map(|names| names.queue).collect();
    let queues: Vec<Queue> =
        desk.config.queues.iter().filter(|queue| meant.contains(&queue.name)).cloned().collect();
    let request = request(asked)?;
    let call_id = request.headers().get("x-call-id").and_then(|id| id.to_str().ok());
    let call_id = call_id.unwrap_or_default().to_owned();
    let mut record = record(request, &queues, desk.now()).map_err(Failure::Usage)?;
    // Each is a call of its own.
    record.id = format!("invoke-{}", unique());
    let queue = queues.iter().find(|queue| queue.stream == record.stream).map(Queue::names);
    let names = queue.ok_or_else(|| cannot("the queue is not among the settings"))?;
    let mut watch = Watch::begin(desk, &names, asked, &call_id).await?;
    let (sequence, _) = desk
        .jetstream
        .enqueue(record)
        .await
        .map_err(|error| Failure::Cannot(format!("stream {}: {error}", names.stream)))?;
    let dead = if asked.wait { watch.end(desk, &names, sequence).await? } else { None };
    let state = match &dead {
        _ if !asked.wait => "queued",
        Some(_) => "dead",
        None => "done",
    };
    if desk.output == Output::Json {
        out::json(&json!({
            "callId": call_id, "queue": names.queue, "function": asked.name(), "sequence": sequence,
            "state": state,
        }))?;
    } else {
        out::print(&format!("{call_id} is {state}\n"));
    }
    dead.map_or(Ok(()), |letter| Err(Failure::Cannot(died(&letter))))
}

/// Why it died, and where more is said.
fn died(letter: &Stored) -> String {
    let (headers, sequence) = (letter.headers(), letter.sequence);
    let why = [names::CAUSE, names::LAST_ERROR].map(|name| header::said(&headers, name));
    let why =
        why.into_iter().flatten().map(|text| out::shown(text).into_owned()).collect::<Vec<_>>().join(", ");
    format!("it ended as a dead letter ({why}): dead-letters show {sequence} tells its story")
}

fn unique() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// What a caller of the ingress would send.
fn request(asked: &Invoking) -> Result<Request<bytes::Bytes>, Failure> {
    let body = match asked.body.as_deref() {
        None => Vec::new(),
        Some("-" | "@-") => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(cannot)?;
            body
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => {
                std::fs::read(file).map_err(|error| Failure::Cannot(format!("--body={text}: {error}")))?
            }
            None => text.as_bytes().to_vec(),
        },
    };
    let mut request = Request::post(format!("/async-function/{}", asked.function));
    let mut has_id = false;
    for header in &asked.header {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| Failure::Usage(format!("--header={header:?}: expected NAME: VALUE")))?;
        has_id |= name.trim().eq_ignore_ascii_case("x-call-id");
        request = request.header(name.trim(), value.trim());
    }
    if !has_id {
        request = request.header("x-call-id", unique().to_string());
    }
    request
        .body(body.into())
        .map_err(|error| Failure::Usage(format!("the function's path or a header: {error}")))
}

impl Invoking {
    /// The function's name, without the path and the query behind it.
    fn name(&self) -> &str {
        self.function.split(['/', '?']).next().unwrap_or_default()
    }
}

/// What follows from a call, as far as it was looked at.
struct Watch {
    call_id: String,
    /// Where its retries and its dead letter would lie, and from which sequence on.
    retries: (String, u64),
    dead: (String, u64),
}

impl Watch {
    async fn begin(desk: &Desk, names: &Names, asked: &Invoking, call_id: &str) -> Result<Self, Failure> {
        let token = asked.name().parse::<FunctionName>().map(|name| name.token()).map_err(cannot)?;
        let from = async |stream: &str| {
            Ok::<_, Failure>(desk.stream(stream).await?.map_or(1, |info| info.state.last_seq + 1))
        };
        Ok(Self {
            call_id: call_id.to_owned(),
            retries: (format!("{}-retries.*.{token}.>", names.queue), from(&names.retries).await?),
            dead: (names.dead_letter(Some(&token)), from(&names.dead).await?),
        })
    }

    /// Waits for its end, and returns its dead letter if there is one.
    async fn end(&mut self, desk: &Desk, names: &Names, sequence: u64) -> Result<Option<Stored>, Failure> {
        loop {
            // What follows from a message is stored before that goes.
            let waits = desk.jetstream.stored(&names.stream, sequence).await.map_err(cannot)?.is_some();
            let parked = find(desk, &names.retries, &mut self.retries, &self.call_id).await?;
            if !waits && parked.is_none() {
                return find(desk, &names.dead, &mut self.dead, &self.call_id).await;
            }
            sleep(LOOK).await;
        }
    }
}

/// The message of this call that lies there. What lies before it is not looked at again.
async fn find(
    desk: &Desk,
    stream: &str,
    (filter, from): &mut (String, u64),
    call_id: &str,
) -> Result<Option<Stored>, Failure> {
    let mut next = *from;
    loop {
        let found: Option<Stored> = match desk.jetstream.next_stored(stream, filter, next).await {
            Err(error) if error.is_absence() => None,
            other => other.map_err(cannot)?,
        };
        let Some(stored) = found else { return Ok(None) };
        if is_of(&stored.headers(), call_id) {
            *from = stored.sequence;
            return Ok(Some(stored));
        }
        next = stored.sequence + 1;
    }
}
