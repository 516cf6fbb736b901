//! A walk over a stream that keeps its messages, oldest first: nothing is consumed, and no bodies are read
//! unless they are asked for.
//!
//! A short-lived consumer is quickest. Where there can be none, because the account has no right to it or no
//! room for it, or a message is there that the client library cannot read, the API gives one message after
//! the other.

use std::time::{Duration, SystemTime};

use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{
    broker::{
        ack_subject::AckSubject,
        jetstream::{
            ApiError, JetStream,
            call::{self, Request},
            nanoseconds,
        },
        seam::BrokerError,
    },
    message::{envelope::rfc3339, header, names::covers},
    tasks::error_backoff::ErrorBackoff,
};

/// How many messages a request asks for. Their headers stay far below what a server keeps for a connection.
const BATCH: usize = 1_000;
/// So many messages are read through the API, before a consumer is tried again.
const STEPS: usize = 256;
/// Nothing that the broker sends takes longer.
const SILENCE: Duration = Duration::from_secs(3);
/// The consumer goes by itself, when nobody has asked it for so long.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// A connection that was lost is waited for, for so long and with these pauses.
const BACK: Duration = Duration::from_secs(10);
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The header that says how long the body was that is not sent.
const SIZE: &str = "Nats-Msg-Size";

/// A message of the stream, without its body.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored: SystemTime,
    /// Its headers, as far as they can be read.
    pub headers: HeaderMap,
    /// How many bytes its body has.
    pub bytes: u64,
    /// Its body, where bodies are read.
    pub payload: Bytes,
}

/// A walk over a stream.
#[derive(Debug)]
pub struct Walk {
    jetstream: JetStream,
    stream: String,
    /// The subjects that are seen.
    filters: Vec<String>,
    /// The first sequence that was not seen yet.
    next: u64,
    /// The last one that is to be seen.
    last: u64,
    /// Messages that were stored earlier are passed over.
    since: Option<SystemTime>,
    /// Whether bodies are read.
    whole: bool,
    reader: Option<Reader>,
    /// How many messages are still to be read through the API.
    steps: usize,
}

/// A consumer does not do, and so many messages are to be read without one.
struct Lost(usize);

#[derive(Debug)]
struct Reader {
    client: Client,
    consumer: String,
    subject: String,
    inbox: String,
    messages: Subscriber,
    /// How many deliveries came.
    delivered: u64,
    /// How many are still to come.
    pending: u64,
}

impl Walk {
    /// A walk from the sequence `from` to `last`, over what lies on the subjects `filter` and was stored at
    /// `since` or later.
    pub(crate) fn new(
        jetstream: &JetStream,
        (stream, filter): (&str, &str),
        from: u64,
        last: u64,
        since: Option<SystemTime>,
    ) -> Self {
        Self::over(jetstream, (stream, vec![filter.to_owned()]), from, last, since)
    }

    /// The same over what lies on any of these subjects.
    pub(crate) fn over(
        jetstream: &JetStream,
        (stream, filters): (&str, Vec<String>),
        from: u64,
        last: u64,
        since: Option<SystemTime>,
    ) -> Self {
        Self {
            jetstream: jetstream.clone(),
            stream: stream.to_owned(),
            filters,
            next: from.max(1),
            last,
            since,
            whole: false,
            reader: None,
            steps: 0,
        }
    }

    /// The same, with bodies.
    pub(crate) fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// The last sequence behind which there is more to see.
    pub(crate) fn seen(&self) -> u64 {
        self.next - 1
    }

    /// Ends it. Its consumer would go by itself, but many walks that end early would leave many.
    pub(crate) async fn end(self) {
        if let Some(reader) = self.reader {
            // No answer is waited for: a login without this right gets none.
            let subject = self.jetstream.api_subject(&call::delete_consumer(&self.stream, &reader.consumer));
            let _ = reader.client.publish(subject, Bytes::new()).await;
        }
    }

    /// The next messages; none at the end.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn next(&mut self) -> Result<Vec<Seen>, ApiError> {
        while self.next <= self.last {
            let mut seen = if self.steps > 0 {
                match self.step().await? {
                    Some(seen) => vec![seen],
                    None => return Ok(Vec::new()),
                }
            } else {
                match self.batch().await {
                    Ok(Some(seen)) => seen,
                    Ok(None) => return Ok(Vec::new()),
                    // Whatever the reason is, the API will say so, too, if it goes on.
                    Err(Lost(steps)) => {
                        (self.reader, self.steps) = (None, steps);
                        continue;
                    }
                }
            };
            if let Some(last) = seen.last() {
                self.next = last.sequence + 1;
            }
            seen.retain(|one| {
                one.sequence <= self.last
                    && self.since.is_none_or(|since| one.stored >= since)
                    && self.filters.iter().any(|filter| covers(filter, &one.subject))
            });
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
        Ok(Vec::new())
    }

    /// One message through the API; none at the end. The client may just be on its way back.
    async fn step(&mut self) -> Result<Option<Seen>, ApiError> {
        self.steps -= 1;
        let (mut pause, until) = (ErrorBackoff::new(PAUSE), Instant::now() + BACK);
        let found = loop {
            match self.jetstream.next_of(&self.stream, &self.filters, self.next).await {
                Err(ApiError::Silent(_)) if Instant::now() < until => pause.rest().await,
                other => break other?,
            }
        };
        Ok(found.map(|stored| Seen {
            headers: stored.headers(),
            bytes: stored.payload.len() as u64,
            subject: stored.subject,
            sequence: stored.sequence,
            stored: stored.time,
            payload: if self.whole { stored.payload } else { Bytes::new() },
        }))
    }

    /// Messages of a consumer; none at the end.
    async fn batch(&mut self) -> Result<Option<Vec<Seen>>, Lost> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            // Where there can be none now, there can be none later.
            None => self.open().await.map_err(|_| Lost(usize::MAX))?,
        };
        if reader.pending == 0 {
            return Ok(None);
        }
        let seen = reader.read().await.map_err(|_| Lost(STEPS))?;
        self.reader = Some(reader);
        Ok(Some(seen))
    }

    async fn open(&self) -> Result<Reader, ApiError> {
        // A time is a beginning only as long as nothing was seen.
        let begin = match self.since.filter(|_| self.next == 1) {
            Some(since) => json!({ "deliver_policy": "by_start_time",
                "opt_start_time": rfc3339(since) }),
            None => json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": self.next }),
        };
        let mut config = json!({
            "ack_policy": "none", "replay_policy": "instant", "headers_only": !self.whole,
            "mem_storage": true, "num_replicas": 1, "inactive_threshold": nanoseconds(FORGOTTEN),
        });
        // A server before 2.10 does not know several filters, and gives all: they are left out here.
        let filter = match self.filters.as_slice() {
            [filter] => json!({ "filter_subject": filter }),
            filters => json!({ "filter_subjects": filters }),
        };
        if let Some(config) = config.as_object_mut() {
            config.extend(
                [begin, filter]
                    .iter()
                    .filter_map(Value::as_object)
                    .flatten()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        let info = self.jetstream.make_ephemeral(&self.stream, &config.into()).await?;
        let client = self.jetstream.client();
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|error| gone(&error))?;
        Ok(Reader {
            subject: self.jetstream.api_subject(&call::next(&self.stream, &info.name)),
            consumer: info.name,
            client,
            inbox,
            messages,
            delivered: 0,
            pending: info.num_pending,
        })
    }
}

impl Reader {
    /// The next messages. An error says nothing about what came before it: all are to be read again.
    async fn read(&mut self) -> Result<Vec<Seen>, BrokerError> {
        let request = Request { batch: BATCH, no_wait: Some(true), ..Request::default() };
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        let sent = self.client.publish_with_reply(subject, inbox, call::written(&request).into()).await;
        sent.map_err(|error| gone(&error))?;
        let mut seen = Vec::with_capacity(BATCH);
        while seen.len() < BATCH && self.pending > 0 {
            let message = timeout(SILENCE, self.messages.next()).await.ok().flatten();
            let message = message.ok_or_else(|| unavailable("the consumer is silent"))?;
            if let Some(status) = message.status.filter(|_| message.reply.is_none()) {
                // There is no more just now, or there is no consumer any more.
                if matches!(status, StatusCode::NOT_FOUND | StatusCode::TIMEOUT) {
                    break;
                }
                return Err(unavailable("the consumer is gone"));
            }
            seen.push(self.seen(message)?);
        }
        if seen.is_empty() {
            return Err(unavailable("the consumer has nothing"));
        }
        Ok(seen)
    }

    /// Reads a delivery. One that is missing was lost on its way.
    fn seen(&mut self, message: Message) -> Result<Seen, BrokerError> {
        let Some(AckSubject { sequence, delivery, pending, stored, .. }) =
            message.reply.as_deref().and_then(AckSubject::read)
        else {
            return Err(unavailable("a delivery of another form than expected"));
        };
        self.delivered += 1;
        if delivery != self.delivered {
            return Err(unavailable("a delivery was lost"));
        }
        self.pending = pending;
        let Message { subject, headers, payload, .. } = message;
        let headers = headers.unwrap_or_default();
        let bytes = header::said(&headers, SIZE).and_then(|size| size.parse().ok());
        Ok(Seen {
            subject: subject.to_string(),
            sequence,
            stored,
            bytes: bytes.unwrap_or(payload.len() as u64),
            payload,
            headers,
        })
    }
}

fn unavailable(reason: &str) -> BrokerError {
    BrokerError::Unavailable(reason.to_owned())
}

fn gone(error: &dyn std::error::Error) -> BrokerError {
    BrokerError::Unavailable(error.to_string())
}
