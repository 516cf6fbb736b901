//! The broker, for real: JetStream's API over one connection. Each of its calls, its answers and its errors
//! is written down in here and nowhere else.

mod acks;
mod answers;
mod asked;
pub(crate) mod call;
mod direct;
mod error;
mod published;
mod reserve;
mod seam;
mod settings;
mod stored;

use std::{sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Request, client::RequestErrorKind, connection::State};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::Instant};

#[cfg(test)]
pub(crate) use answers::Position;
pub(crate) use answers::{Account, Cluster, ConsumerInfo, Consumers, Replica, StreamInfo};
pub(crate) use call::nanoseconds;
pub use error::ApiError;
use error::Refusal;
pub(crate) use error::{code, if_stream};
pub(crate) use settings::Settings;
pub(crate) use stored::Stored;

use crate::broker::{clock::BrokerClock, connect::Link, consumer::Wire, seam::BrokerError};

/// How long one question to the broker may take: any API call can hang.
const PATIENCE: Duration = Duration::from_secs(4);
/// The reason where a request got no answer within [`PATIENCE`].
const SILENCE: &str = "no answer in time";

/// A connection to JetStream. Cheap to clone: each call has one.
#[derive(Debug, Clone)]
pub struct JetStream {
    connection: Arc<Connection>,
    reserve: Option<Arc<reserve::Reserve>>,
}

/// What all clones share.
#[derive(Debug)]
struct Connection {
    client: watch::Receiver<Client>,
    prefix: String,
    clock: BrokerClock,
    link: watch::Receiver<Link>,
    wire: Wire,
    acks: acks::Acks,
}

/// The part that all answers have in common.
#[derive(Deserialize)]
struct Head {
    error: Option<Refusal>,
    #[serde(default, rename = "ts")]
    told: Option<String>,
}

enum Unanswered {
    NoResponders,
    Other(BrokerError),
}

impl JetStream {
    /// JetStream behind `client`, in a domain if one is given.
    pub fn new(client: watch::Receiver<Client>, domain: Option<&str>, link: watch::Receiver<Link>) -> Self {
        let connection = Connection {
            client,
            prefix: call::prefix(domain),
            clock: BrokerClock::default(),
            link,
            wire: Wire::default(),
            acks: acks::Acks::default(),
        };
        Self { connection: Arc::new(connection), reserve: None }
    }

    /// The connection, as it is now: a client that ended by itself is replaced. Not to be kept.
    pub fn client(&self) -> Client {
        self.connection.client.borrow().clone()
    }

    /// Follows the state of the connection.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.connection.link.clone()
    }

    /// The bytes that open requests may bring over the connection.
    pub(crate) fn wire(&self) -> &Wire {
        &self.connection.wire
    }

    /// The subject of an API call.
    pub(crate) fn api_subject(&self, call: &str) -> String {
        format!("{}.{call}", self.connection.prefix)
    }

    /// Asks the JetStream API. The clock learns from the answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn api<A: DeserializeOwned>(
        &self,
        call: &str,
        question: &impl Serialize,
    ) -> Result<A, ApiError> {
        let asked = Instant::now();
        let answer = self
            .request(&self.api_subject(call), HeaderMap::new(), call::written(question).into())
            .await
            .map_err(|error| match error {
                Unanswered::NoResponders => ApiError::NoJetStream,
                Unanswered::Other(error) => ApiError::Silent(error),
            })?;
        let Head { error, told } = parse(&answer)?;
        let told = told.and_then(|told| humantime::parse_rfc3339(&told).ok());
        if let Some(skew) = told.and_then(|told| self.connection.clock.learn(told, asked)) {
            tracing::warn!(
                seconds = skew.as_secs(),
                "this machine's clock and the broker's differ; due times follow the broker's"
            );
        }
        match error {
            Some(refusal) => Err(refusal.into()),
            None => Ok(parse(&answer)?),
        }
    }

    /// The connection, if it stands. Not to be held over a wait.
    fn connected(&self) -> Result<watch::Ref<'_, Client>, BrokerError> {
        let client = self.connection.client.borrow();
        match client.connection_state() {
            State::Connected => Ok(client),
            _ => Err(BrokerError::Unavailable("not connected".to_owned())),
        }
    }

    /// One question and its answer. Nothing is queued while the connection is down: what the client would
    /// send when it comes back may be stale by then.
    async fn request(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<Bytes, Unanswered> {
        let client = self.connected().map_err(Unanswered::Other)?.clone();
        let mut request = Request::new().payload(payload).timeout(Some(PATIENCE));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        // The client's future takes a kilobyte, and stands in those of all that ask.
        match Box::pin(client.send_request(subject.to_owned(), request)).await {
            Ok(message) => Ok(message.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => Unanswered::NoResponders,
                RequestErrorKind::MaxPayloadExceeded => Unanswered::Other(BrokerError::TooLarge),
                RequestErrorKind::TimedOut => Unanswered::Other(BrokerError::Unavailable(SILENCE.to_owned())),
                _ => Unanswered::Other(BrokerError::Unavailable(error.to_string())),
            }),
        }
    }
}

fn parse<'a, A: Deserialize<'a>>(answer: &'a [u8]) -> Result<A, BrokerError> {
    serde_json::from_slice(answer).map_err(|error| {
        BrokerError::Unavailable(if error.is_data() {
            "the answer is of another form than expected".to_owned()
        } else {
            "the answer is no JSON".to_owned()
        })
    })
}
