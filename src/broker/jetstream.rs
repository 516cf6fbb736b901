//! The broker, for real: JetStream's API over one connection, asked in its own words (JSON) so that fields
//! which this program does not know survive an update.

mod reserve;
mod stored;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{Client, HeaderMap, Request, client::RequestErrorKind, connection::State};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

pub use stored::Stored;

use crate::{
    broker::{
        clock::BrokerClock,
        connect::Link,
        consumer::Wire,
        seam::{Ack, Broker, BrokerError},
    },
    message::{
        header::{self, put},
        header_block,
        names::{EXPECTED_LAST, EXPECTED_STREAM, MESSAGE_ID, is_brokers},
        record::Record,
    },
};

/// How long one question to the broker may take: any API call can hang.
const PATIENCE: Duration = Duration::from_secs(4);
/// What is said of a request that got no answer within [`PATIENCE`].
const SILENCE: &str = "no answer in time";
/// No message has this id: a publish that expects it to be the last one is refused, if it gets so far.
const NO_SUCH_ID: &str = "queue-worker-probe";

/// JetStream's error codes that mean something here.
mod code {
    /// A precondition on the last message's id does not hold.
    pub const WRONG_LAST_MSG_ID: u64 = 10070;
    /// A precondition on the last sequence does not hold.
    pub const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// There is no such message.
    pub const NO_MESSAGE: u64 = 10037;
    /// There is no message of this sequence to delete.
    pub const NO_SEQUENCE: u64 = 10043;
    /// The message is larger than the stream takes.
    pub const TOO_LARGE: u64 = 10054;
}

/// An error that the JetStream API answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No answer.
    #[error("{0}")]
    Silent(#[from] BrokerError),
    /// Nobody answers the API: JetStream is not enabled.
    #[error("nobody answers the JetStream API")]
    NoJetStream,
    /// The API said no.
    #[error("{description} (error {code})")]
    Refused {
        /// JetStream's own code.
        code: u64,
        /// What it says.
        description: String,
    },
}

/// A connection to JetStream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JetStream {
    client: watch::Receiver<Client>,
    prefix: Arc<str>,
    clock: Arc<BrokerClock>,
    link: watch::Receiver<Link>,
    reserve: Option<Arc<reserve::Reserve>>,
    wire: Wire,
}

impl JetStream {
    /// JetStream behind `client`, in a domain if one is given.
    pub fn new(client: watch::Receiver<Client>, domain: Option<&str>, link: watch::Receiver<Link>) -> Self {
        let prefix = domain.map_or_else(|| "$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"));
        Self {
            client,
            prefix: prefix.into(),
            clock: Arc::default(),
            link,
            reserve: None,
            wire: Wire::default(),
        }
    }

    /// The connection, as it is now: a client that ended by itself is replaced. Not to be kept.
    pub fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Follows the state of the connection.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// What open requests may bring over the connection.
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The subject of an API call.
    pub fn api_subject(&self, call: &str) -> String {
        format!("{}.{call}", self.prefix)
    }

    /// Asks the JetStream API.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn api(&self, call: &str, question: &Value) -> Result<Value, ApiError> {
        let asked = Instant::now();
        let message = self
            .request(&self.api_subject(call), HeaderMap::new(), question.to_string().into())
            .await
            .map_err(|error| match error {
                Unanswered::NoResponders => ApiError::NoJetStream,
                Unanswered::Other(error) => ApiError::Silent(error),
            })?;
        let answer: Value = parse(&message)?;
        let told = answer.get("ts").and_then(Value::as_str).and_then(|ts| humantime::parse_rfc3339(ts).ok());
        if let Some(skew) = told.and_then(|told| self.clock.learn(told, asked)) {
            tracing::warn!(
                seconds = skew.as_secs(),
                "this machine's clock and the broker's differ; due times follow the broker's"
            );
        }
        match answer.get("error") {
            Some(error) => Err(ApiError::Refused {
                code: error.get("err_code").and_then(Value::as_u64).unwrap_or_default(),
                description: error
                    .get("description")
                    .and_then(Value::as_str)
                    .unwrap_or("no reason given")
                    .to_owned(),
            }),
            None => Ok(answer),
        }
    }

    /// What the broker knows of a stream.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn stream(&self, stream: &str) -> Result<Value, ApiError> {
        self.api(&format!("STREAM.INFO.{stream}"), &json!({})).await
    }

    /// What the broker knows of a consumer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn consumer(&self, stream: &str, consumer: &str) -> Result<Value, ApiError> {
        self.api(&format!("CONSUMER.INFO.{stream}.{consumer}"), &json!({})).await
    }

    /// Makes a consumer with these settings, or gives them to the one that is there. Returns what the broker
    /// knows of it then.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn put_consumer(
        &self,
        stream: &str,
        consumer: &str,
        settings: &Value,
    ) -> Result<Value, ApiError> {
        let question = json!({ "stream_name": stream, "config": settings });
        self.api(&format!("CONSUMER.DURABLE.CREATE.{stream}.{consumer}"), &question).await
    }

    /// What the broker knows of a stream's consumers, of the first 256 at least: nobody needs as many.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn consumers(&self, stream: &str) -> Result<Value, ApiError> {
        self.api(&format!("CONSUMER.LIST.{stream}"), &json!({ "offset": 0 })).await
    }

    /// One question and its answer. Nothing is queued while the connection is down: what the client would
    /// send when it comes back may be stale by then.
    async fn request(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Bytes, Unanswered> {
        let client = self.client();
        if client.connection_state() != State::Connected {
            return Err(Unanswered::Other(BrokerError::Unavailable("not connected".to_owned())));
        }
        let mut request = Request::new().payload(payload).timeout(Some(PATIENCE));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        match client.send_request(subject.to_owned(), request).await {
            Ok(message) => Ok(message.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => Unanswered::NoResponders,
                RequestErrorKind::MaxPayloadExceeded => Unanswered::Other(BrokerError::TooLarge),
                RequestErrorKind::TimedOut => Unanswered::Other(BrokerError::Unavailable(SILENCE.to_owned())),
                _ => Unanswered::Other(BrokerError::Unavailable(error.to_string())),
            }),
        }
    }

    /// Publishes and reads the PubAck: of a duplicate, the sequence of what was taken first.
    async fn store(
        &self,
        stream: &str,
        subject: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Result<Option<u64>, u64>, BrokerError> {
        put(&mut headers, EXPECTED_STREAM, stream);
        let answer = self.request(subject, headers, payload).await.map_err(|error| match error {
            Unanswered::NoResponders => BrokerError::Unavailable(format!("no stream takes {subject}")),
            Unanswered::Other(error) => error,
        })?;
        let answer: Value = parse(&answer)?;
        if let Some(error) = answer.get("error") {
            let said = error.get("description").and_then(Value::as_str).unwrap_or("no reason given");
            return match error.get("err_code").and_then(Value::as_u64).unwrap_or_default() {
                code::TOO_LARGE => Err(BrokerError::TooLarge),
                known @ (code::WRONG_LAST_MSG_ID | code::WRONG_LAST_SEQUENCE) => Ok(Err(known)),
                _ => Err(BrokerError::Refused(said.to_owned())),
            };
        }
        if answer.get("stream").and_then(Value::as_str) != Some(stream) {
            return Err(BrokerError::Refused(format!(
                "the message for stream {stream} was taken by another"
            )));
        }
        let duplicate = answer.get("duplicate").and_then(Value::as_bool).unwrap_or(false);
        Ok(Ok(duplicate.then(|| answer.get("seq").and_then(Value::as_u64).unwrap_or_default())))
    }

    /// Stores a record, and says whether it is new: not so if its id is stored or was lately.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn deposit(&self, record: &Record) -> Result<bool, BrokerError> {
        let mut headers = record.headers.clone();
        put(&mut headers, MESSAGE_ID, &record.id);
        match self.store(&record.stream, &record.subject, headers, record.payload.clone()).await? {
            Ok(duplicate) => Ok(duplicate.is_none()),
            Err(code) => Err(BrokerError::Refused(format!("a precondition that was not set (error {code})"))),
        }
    }

    /// Deletes a message, if it is still there.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn delete(&self, stream: &str, sequence: u64) -> Result<(), ApiError> {
        match self
            .api(&format!("STREAM.MSG.DELETE.{stream}"), &json!({ "seq": sequence, "no_erase": true }))
            .await
        {
            Ok(_) | Err(ApiError::Refused { code: code::NO_MESSAGE | code::NO_SEQUENCE, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves a holder's message to its target, unless the holder is gone or another took its place:
    /// `sequence` is what was seen. Only for a server that knows schedules.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn fire(
        &self,
        stream: &str,
        holder: &str,
        target: &str,
        sequence: u64,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<bool, BrokerError> {
        put(&mut headers, "Nats-Scheduler", holder);
        put(&mut headers, "Nats-Schedule-Next", "purge");
        put(&mut headers, EXPECTED_LAST, &sequence.to_string());
        put(&mut headers, "Nats-Expected-Last-Subject-Sequence-Subject", holder);
        Ok(self.store(stream, target, headers, payload).await?.is_ok())
    }
}

enum Unanswered {
    NoResponders,
    Other(BrokerError),
}

/// A duration as JetStream's API writes it.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The number at this place of an answer; 0 where there is none.
pub fn number(answer: &Value, pointer: &str) -> u64 {
    answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// Whether a stream allows message schedules, by what the broker knows of it: a server that does not know the
/// setting does not give it back.
pub fn allows_schedules(stream: &Value) -> bool {
    stream.pointer("/config/allow_msg_schedules").and_then(Value::as_bool) == Some(true)
}

fn parse(answer: &[u8]) -> Result<Value, BrokerError> {
    serde_json::from_slice(answer).map_err(|_| BrokerError::Unavailable("the answer is no JSON".to_owned()))
}

/// The headers of a stored message, less the broker's own, as far as they can be read.
pub fn own_headers(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in
        header_block::readable(block).iter().filter(|(name, _)| !is_brokers(AsRef::<str>::as_ref(name)))
    {
        values.iter().for_each(|value| header::copy(&mut headers, name, value));
    }
    headers
}

impl Broker for JetStream {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let _parking = match &self.reserve {
            Some(reserve) => reserve.admit(self, record).await?,
            None => None,
        };
        self.deposit(record).await.map(|_new| ())
    }

    async fn place(&self, record: &Record) -> Result<(), BrokerError> {
        let mut headers = record.headers.clone();
        put(&mut headers, MESSAGE_ID, &record.id);
        put(&mut headers, EXPECTED_LAST, "0");
        match self.store(&record.stream, &record.subject, headers, record.payload.clone()).await? {
            Ok(_) | Err(code::WRONG_LAST_SEQUENCE) => Ok(()),
            Err(code) => Err(BrokerError::Refused(format!("a precondition that was not set (error {code})"))),
        }
    }

    async fn acknowledge(&self, reply: &str, ack: Ack, confirmed: bool) -> Result<(), BrokerError> {
        let payload = match ack {
            Ack::Done => Bytes::from_static(b"+ACK"),
            Ack::InProgress => Bytes::from_static(b"+WPI"),
            Ack::Later(wait) => {
                format!("-NAK {}", json!({ "delay": u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2) }))
                    .into()
            }
        };
        match self.request(reply, HeaderMap::new(), payload).await {
            Ok(_) => Ok(()),
            // It was sent; whether it arrived is not insisted on.
            Err(Unanswered::Other(BrokerError::Unavailable(reason))) if !confirmed && reason == SILENCE => {
                Ok(())
            }
            Err(Unanswered::NoResponders) => Err(BrokerError::Unavailable("the consumer is gone".to_owned())),
            Err(Unanswered::Other(error)) => Err(error),
        }
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        match self.api(&format!("STREAM.MSG.GET.{stream}"), &json!({ "last_by_subj": filter })).await {
            Ok(answer) => Ok(answer.pointer("/message/subject").and_then(Value::as_str).map(str::to_owned)),
            Err(ApiError::Refused { code: code::NO_MESSAGE, .. }) => Ok(None),
            Err(ApiError::Silent(error)) => Err(error),
            Err(error) => Err(BrokerError::Unavailable(error.to_string())),
        }
    }

    /// Asks with a publish that cannot succeed: the broker looks at the id first (a duplicate is confirmed)
    /// and only then at a precondition that never holds, so that nothing is stored either way, and no id
    /// noted. Where it looks at which is read off nats-server's sources, 2.9.10 to 2.15.2
    /// (`processJetStreamMsg` and what its successors are called):
    ///
    /// * a stream without replicas checks the last message's id after the new one, in all versions; its last
    ///   sequence before it, since 2.12;
    /// * one with replicas checks the last sequence between looking the id up and noting it, since 2.12.
    ///   Before, it notes the id first: the question itself would turn what is stored later into a duplicate.
    ///   There nobody is asked, and what is known is what lies in the stream. Who leads the stream says its
    ///   API level (2 is 2.12) in the answer.
    async fn taken_as(
        &self,
        stream: &str,
        subject: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, BrokerError> {
        let mut headers = HeaderMap::new();
        // Asked anew each time: an operator may have given the stream replicas since the start.
        let found = self.stream(stream).await.map_err(|error| match error {
            ApiError::Silent(error) => error,
            error => BrokerError::Unavailable(error.to_string()),
        })?;
        if found.pointer("/config/num_replicas").and_then(Value::as_u64).unwrap_or(1) > 1 {
            let level = found.pointer("/config/metadata/_nats.level").and_then(Value::as_str);
            if level.and_then(|level| level.parse::<u32>().ok()).is_none_or(|level| level < 2) {
                return Ok(vec![None; ids.len()]);
            }
            put(&mut headers, "Nats-Expected-Last-Sequence", &i64::MAX.to_string());
        } else {
            put(&mut headers, "Nats-Expected-Last-Msg-Id", NO_SUCH_ID);
        }
        let asked = ids.iter().map(|id| {
            let mut headers = headers.clone();
            put(&mut headers, MESSAGE_ID, id);
            self.store(stream, subject, headers, Bytes::new())
        });
        // An id that is not known is refused, for the precondition's sake.
        Ok(try_join_all(asked).await?.into_iter().map(|taken| taken.ok().flatten()).collect())
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        match self.api(&format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": sequence })).await {
            Ok(answer) => {
                let block = answer
                    .pointer("/message/hdrs")
                    .and_then(Value::as_str)
                    .and_then(|text| BASE64_STANDARD.decode(text).ok());
                Ok(Some(own_headers(&block.unwrap_or_default())))
            }
            Err(ApiError::Refused { code: code::NO_MESSAGE, .. }) => Ok(None),
            Err(ApiError::Silent(error)) => Err(error),
            Err(error) => Err(BrokerError::Unavailable(error.to_string())),
        }
    }

    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn now_at_least(&self) -> SystemTime {
        self.clock.now_at_least()
    }

    fn max_payload(&self) -> usize {
        self.client.borrow().max_payload()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_header_block_is_read_without_the_brokers_own() {
        let headers = own_headers(
            b"NATS/1.0\r\nNats-Schedule: @at x\r\nQueue-Worker-Hop: 2\r\nX: a: b\r\nX: c\r\n\r\n",
        );
        assert_eq!(headers.get("Queue-Worker-Hop").unwrap().as_str(), "2");
        assert_eq!(headers.get_all("X").map(|value| value.as_str()).collect::<Vec<_>>(), ["a: b", "c"]);
        assert_eq!(headers.len(), 2);
    }
}
