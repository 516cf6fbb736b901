//! The operators' API over HTTP: what the commands do, in the same words.
//!
//! ```text
//!  connection ─▶ token? ─▶ route ─▶ parameters and body ─▶ Desk ─▶ a noun's file ─▶ JSON
//!                  └──────────┴───────────────┴─────────────┴───────────┴─▶ problem
//! ```
//!
//! It has a connection to NATS of its own: a right that only operators need and that the login lacks is
//! the caller's problem, and never the worker's.
//!
//! Calls: text, tasks, retry, message, config, broker, inbound, outbound, operate.

mod audit;
mod calls;
mod changes;
mod cursor;
mod dead_letters;
mod once;
mod openapi;
mod operations;
mod pauses;
mod policy;
mod problem;
mod queues;
mod request;
mod retries;
mod routes;
mod schemas;
mod values;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    problem::Problem,
    request::{Admission, Asked},
    routes::Act,
};
use crate::{
    broker::{
        connect::{Connection, Denials, attempt},
        jetstream::JetStream,
    },
    config::{self, Config},
    inbound::{
        connections::{self, Busy, Limits, Peer, SPARE},
        tokens::Tokens,
    },
    operate::desk::Desk,
    outbound::lookup::Lookup,
    tasks::{error_backoff::ErrorBackoff, renewed::FileError},
};

pub use self::{openapi::document, request::meant};

const LIMITS: Limits = Limits {
    most: 64,
    patience: Duration::from_secs(30),
    age: None,
    goodbye: Duration::from_secs(5),
    head: 16 << 10,
};
/// The files of its connections, that to NATS included.
pub const FILES: usize = LIMITS.most + SPARE + 1;
/// The most requests that are answered at once. Others wait.
const AT_ONCE: usize = 16;
/// The longest wait for that.
const TURN: Duration = Duration::from_secs(10);
/// The longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(60);
/// The longest time for a change, for which nobody waits by then: it keeps others from their turns.
const LONGEST: Duration = Duration::from_secs(600);
/// The pause before another try to connect to NATS, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What is said of a request that went well.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    document: Value,
    /// Where to look for what becomes of it.
    location: Option<String>,
}

impl Answer {
    fn ok(document: Value) -> Self {
        Self { status: StatusCode::OK, document, location: None }
    }

    /// It was begun.
    fn accepted(document: Value, location: Option<String>) -> Self {
        Self { status: StatusCode::ACCEPTED, document, location }
    }
}

/// The API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    config: Arc<Config>,
    tokens: Option<Tokens>,
    lookup: Lookup,
    turns: Arc<Semaphore>,
    /// Those that are being made, whether or not anybody waits for their answers.
    changes: TaskTracker,
    /// The connection, or why there is none.
    access: Mutex<Result<Access, String>>,
}

/// A connection to the broker, and what it denies.
#[derive(Debug, Clone)]
struct Access {
    jetstream: JetStream,
    denied: Denials,
}

impl Api {
    /// The API of a worker with these settings.
    ///
    /// # Errors
    /// Where the tokens cannot be read.
    pub fn new(settings: &config::Api, config: &Config, lookup: Lookup) -> Result<Self, FileError> {
        let tokens =
            settings.token_file.clone().map(|file| Tokens::new("api_token_file", file)).transpose()?;
        Ok(Self(Arc::new(Parts {
            config: Arc::new(config.clone()),
            tokens,
            lookup,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            changes: TaskTracker::new(),
            access: Mutex::new(Err("not connected to NATS yet".to_owned())),
        })))
    }

    /// Serves until `until` is cancelled, and then until the requests that came in have their answers and the
    /// changes are made.
    pub async fn serve(self, listener: Arc<TcpListener>, until: CancellationToken) {
        let api = self.clone();
        let answer = move |mut request: Request<Incoming>, busy, peer: Peer| {
            request.extensions_mut().insert(peer);
            let api = api.clone();
            async move { api.answer(request, busy).await }
        };
        let served = async {
            connections::serve(listener, LIMITS, answer, until).await;
            self.0.changes.close();
            self.0.changes.wait().await;
        };
        tokio::select! {
            () = served => {}
            never = self.connect() => match never {},
        }
    }

    /// Connects to NATS, and stays connected.
    async fn connect(&self) -> std::convert::Infallible {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            let reason = match attempt(&self.0.config.nats).await {
                Ok(Ok(Connection { client, link, denied, mut keeper })) => {
                    let jetstream = JetStream::new(client, self.0.config.nats.js_domain.as_deref(), link);
                    self.put(Ok(Access { jetstream, denied }));
                    match keeper.keep().await {}
                }
                Ok(Err(reason)) => reason,
                Err(error) => error.to_string(),
            };
            self.put(Err(format!("no connection to NATS: {reason}")));
            pause.rest().await;
        }
    }

    fn put(&self, access: Result<Access, String>) {
        *self.0.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// The connection, if it stands.
    fn access(&self) -> Result<Access, Problem> {
        let access = self.0.access.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let access = access.map_err(Problem::not_now)?;
        let link = *access.jetstream.link().borrow();
        if link.made > 0 && !link.up {
            return Err(Problem::not_now("the connection to NATS is lost; it is made again"));
        }
        Ok(access)
    }

    /// Answers a request.
    async fn answer(&self, request: Request<Incoming>, busy: Busy) -> Response<Body> {
        match self.answered(request, busy).await {
            Ok(answer) => response(&answer),
            Err(problem) => problem.response(),
        }
    }

    async fn answered(&self, request: Request<Incoming>, busy: Busy) -> Result<Answer, Problem> {
        let Parts { config, tokens, lookup, turns, changes, .. } = &*self.0;
        let admission = Admission { tokens: tokens.as_ref(), config, lookup };
        let asked = admission.admit(request).await?;
        // From here on it is not closed for another.
        busy.set();
        let Ok(Ok(turn)) = timeout(TURN, turns.clone().acquire_owned()).await else {
            return Err(Problem::not_now("too many requests at once"));
        };
        if !asked.is_change() {
            return self.act(asked, DEADLINE).await;
        }
        // Whoever asked may hang up, which ends this.
        match timeout(DEADLINE, changes.spawn(self.clone().change(asked, turn))).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the change broke off")),
            Err(_) => Err(late(DEADLINE).and("; the change goes on")),
        }
    }

    /// Makes a change to its end, and tells of it.
    async fn change(self, asked: Asked, _turn: OwnedSemaphorePermit) -> Result<Answer, Problem> {
        let (action, by) = asked.act();
        let answered = self.act(asked, LONGEST).await;
        let status = answered.as_ref().map_or_else(|problem| problem.status, |answer| answer.status);
        tracing::info!(action, by, status = status.as_u16(), "Operator's request");
        answered
    }

    /// Does what was asked for, within this time.
    async fn act(&self, asked: Asked, most: Duration) -> Result<Answer, Problem> {
        let config = self.0.config.clone();
        let act = match asked.route.act {
            Act::Desk(act) => act,
            Act::Alone(act) => return act(config, asked).await,
        };
        let Access { jetstream, denied } = self.access()?;
        let denied = denied.from_now_on();
        let desk = Desk::of_request(jetstream, config, asked.queue(), asked.by.clone());
        let answered = timeout(most, act(desk, asked)).await.unwrap_or_else(|_| Err(late(most)));
        answered.map_err(|problem| match denied.newest() {
            Some(denial) if problem.is_not_now() => {
                problem.and(&format!("; NATS denies what this needs: {denial}"))
            }
            _ => problem,
        })
    }
}

fn late(limit: Duration) -> Problem {
    Problem::not_now(format!("no answer within {} s", limit.as_secs()))
}

fn response(answer: &Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{:#}\n", answer.document)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(location) = answer.location.as_deref().and_then(|location| location.parse().ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}
