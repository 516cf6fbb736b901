//! The way in by HTTP: callers post what producers with a client of NATS publish, and the answer says that
//! NATS has it.
//!
//! ```text
//!  connection ─▶ token? ─▶ route: which queue? ─▶ body, within its limits ─▶ Entry ─store─▶ 202
//!                                                                              └ due later: parked
//! ```
//!
//! Calls: text, tasks, message, config, observe, broker, inbound.

mod entry;
mod keys;
mod route;
mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::store::record;
use self::{
    entry::{Entry, entry},
    keys::Keys,
    route::{Route, route},
    store::Stored,
};
use crate::{
    broker::{jetstream::JetStream, seam::Broker, streams::Ready},
    config::{self, Queue},
    inbound::{
        connections::{self, Busy, Limits, SPARE},
        tokens::{Tokens, Unwelcome},
    },
    message::timer::Timer,
    observe::metrics::Registry,
    tasks::renewed::FileError,
};

const LIMITS: Limits = Limits {
    most: 512,
    patience: Duration::from_secs(30),
    age: None,
    goodbye: Duration::from_secs(10),
    // NATS stores 64 KiB of headers.
    head: 64 << 10,
};
/// The files of its connections.
pub const FILES: usize = LIMITS.most + SPARE;
/// The time for a body to come in.
const BODY: Duration = Duration::from_secs(30);
/// The most bytes of all bodies that are in memory.
const MEMORY: usize = 64 << 20;
/// The bytes of one unit of that memory.
const UNIT: usize = 1 << 10;

/// The reason for an answer that is no 202. Its word is a metric's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) word: &'static str,
    /// What the caller is told.
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, word: &'static str, text: impl Into<String>) -> Self {
        Self { status, word, text: text.into() }
    }

    fn unwelcome(unwelcome: &Unwelcome) -> Self {
        let (status, word) = match unwelcome {
            Unwelcome::Nobody => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Unwelcome::Stranger => (StatusCode::FORBIDDEN, "forbidden"),
        };
        Self::new(status, word, unwelcome.to_string())
    }

    fn not_now(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    }
}

/// The queues that can be posted to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingress(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    settings: config::Ingress,
    tokens: Option<Tokens>,
    queues: Vec<Queue>,
    /// The timer of each queue that was made ready, and the window in which its stream knows a key.
    ready: Mutex<BTreeMap<String, (Timer, Duration)>>,
    keys: Keys,
    memory: Arc<Semaphore>,
    metrics: Registry,
    jetstream: JetStream,
}

impl Ingress {
    /// An ingress for these queues, none of which is ready.
    ///
    /// # Errors
    /// Where the tokens cannot be read.
    pub fn new(
        settings: &config::Ingress,
        queues: &[Queue],
        jetstream: JetStream,
        metrics: Registry,
    ) -> Result<Self, FileError> {
        let tokens =
            settings.token_file.clone().map(|file| Tokens::new("ingress_token_file", file)).transpose()?;
        Ok(Self(Arc::new(Parts {
            settings: settings.clone(),
            tokens,
            queues: queues.to_vec(),
            ready: Mutex::default(),
            keys: Keys::default(),
            memory: Arc::new(Semaphore::new(MEMORY / UNIT)),
            metrics,
            jetstream,
        })))
    }

    /// A queue has its streams, its timer, and a window in which the same key is stored once.
    pub(crate) fn ready(&self, queue: &str, ready: &Ready) {
        let mut queues = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.insert(queue.to_owned(), (ready.timer, ready.window)).is_some() {
            self.0.keys.forget();
        }
    }

    /// Serves until `until` is cancelled, and then until the requests that came in have their answers.
    pub async fn serve(self, listener: Arc<TcpListener>, until: CancellationToken) {
        let answer = move |request, busy, _| {
            let ingress = self.clone();
            async move { ingress.answer(request, &busy).await }
        };
        connections::serve(listener, LIMITS, answer, until).await;
    }

    /// Answers a request.
    async fn answer(&self, request: Request<hyper::body::Incoming>, busy: &Busy) -> Response<Body> {
        let route = match self.admit(&request).await {
            Ok(route) => route,
            Err(refusal) => return self.refused(&refusal),
        };
        match self.take(request, &route, busy).await {
            Ok(stored) => {
                self.0.metrics.ingress_accepted(&route.queue.name, stored.took);
                accepted(&route, &stored)
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    /// Where a request goes, if it may go there.
    async fn admit<B>(&self, request: &Request<B>) -> Result<Route<'_>, Refusal> {
        if let Some(tokens) = &self.0.tokens {
            let admitted = tokens.admit(request.headers().get(header::AUTHORIZATION)).await;
            admitted.map_err(|unwelcome| Refusal::unwelcome(&unwelcome))?;
        }
        route(request.method(), request.uri(), &self.0.queues)
    }

    /// Takes a request in: what it asks for is stored when this returns.
    async fn take(
        &self,
        request: Request<hyper::body::Incoming>,
        route: &Route<'_>,
        busy: &Busy,
    ) -> Result<Stored, Refusal> {
        let Parts { settings, jetstream, ready, keys, .. } = &*self.0;
        let (head, body) = request.into_parts();
        let max_payload = jetstream.max_payload();
        let most = if settings.max_body == 0 { max_payload } else { settings.max_body };
        let (body, _memory) = self.read(&head.headers, body, most).await?;
        busy.set();
        let mine = self.0.tokens.is_some();
        let entry = {
            let unique = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
            entry(route, &head.headers, body, mine, settings.max_delay, jetstream.now(), unique)?
        };
        let ready = ready.lock().unwrap_or_else(PoisonError::into_inner).get(&route.queue.name).copied();
        let (timer, window) = ready.ok_or_else(|| Refusal::not_now("the queue is not ready"))?;
        let name = entry.key.hash(&route.queue.name);
        if let Some(sequence) = name.and_then(|name| keys.find(&name)) {
            return Ok(Stored { call_id: entry.call_id, sequence, duplicate: true, took: Duration::ZERO });
        }
        let began = Instant::now();
        let mut stored = store::store(jetstream, route.queue, timer, entry).await?;
        stored.took = began.elapsed();
        if let Some(name) = name {
            keys.keep(name, stored.sequence, window);
        }
        Ok(stored)
    }

    /// Reads a body of at most so many bytes. One that says at once that it is larger is not read.
    async fn read(
        &self,
        headers: &axum::http::HeaderMap,
        mut body: hyper::body::Incoming,
        most: usize,
    ) -> Result<(Bytes, Vec<OwnedSemaphorePermit>), Refusal> {
        let larger = || {
            let text = format!("the body has more than {most} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
        };
        let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if told.is_some_and(|told: u64| told > most as u64) {
            return Err(larger());
        }
        let (mut read, mut held) = (BytesMut::new(), Vec::new());
        let reading = async {
            while let Some(frame) = body.frame().await {
                let broken = |_| Refusal::new(StatusCode::BAD_REQUEST, "broken", "the body broke off");
                let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
                if read.len() + data.len() > most {
                    return Err(larger());
                }
                let units = u32::try_from(data.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
                let memory = self.0.memory.clone().try_acquire_many_owned(units);
                held.push(memory.map_err(|_| Refusal::not_now("too many bodies at once"))?);
                read.extend_from_slice(&data);
            }
            Ok(())
        };
        let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body did not come in time");
        timeout(BODY, reading).await.map_err(slow)??;
        Ok((read.freeze(), held))
    }

    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        self.0.metrics.ingress_refused(refusal.word);
        let mut response = Response::new(Body::from(format!("{}\n", refusal.text)));
        *response.status_mut() = refusal.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if refusal.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// The answer to what is stored: an empty one, as OpenFaaS's gateway has it, to a call of a function.
fn accepted(route: &Route<'_>, stored: &Stored) -> Response<Body> {
    let body = match route.function {
        Some(_) => Body::empty(),
        None => Body::from(serde_json::to_vec(stored).unwrap_or_default()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    if let Ok(call_id) = HeaderValue::from_str(&stored.call_id) {
        headers.insert("x-call-id", call_id);
    }
    if route.function.is_none() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}
