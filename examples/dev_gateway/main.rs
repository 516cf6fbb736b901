//! A gateway for development: it answers the routes of an OpenFaaS gateway that a queue worker lives between,
//! with a few functions built in, and needs nothing but a NATS server.
//!
//! ```text
//! POST /async-function/NAME[/PATH]   queued as the real gateway queues it: 202
//! any  /function/NAME[/PATH]         chaos-fn, echo or headers (functions.rs); 404 for the rest
//! GET  /healthz                      200 once NATS was reached
//! ```
//!
//! It never creates a stream: until the worker has, queueing answers 500. The environment: `listen`
//! (127.0.0.1:8080), `nats_url` (nats://127.0.0.1:4222), `queue_name` (faas-request). `dev_gateway
//! dead-letters` prints what was given up.

mod dead_letters;
mod functions;
mod queue_request;

use anyhow::Context as _;
use async_nats::jetstream::{self, context::PublishError};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use functions::Functions;
use http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts};
use queue_request::QueueRequest;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

const SERVED_BY: &str = concat!("dev-gateway/", env!("CARGO_PKG_VERSION"));

struct Gateway {
    jetstream: jetstream::Context,
    queue: String,
    functions: Functions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = setting("queue_name", "faas-request");
    let nats_url = setting("nats_url", "nats://127.0.0.1:4222");
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("dead-letters") => {
            let jetstream = jetstream::new(async_nats::connect(nats_url).await?);
            return dead_letters::print(&jetstream, &queue).await;
        }
        Some(other) => {
            anyhow::bail!("unknown command {other}: there is dead-letters, and the gateway without a command")
        }
    }

    let listen = setting("listen", "127.0.0.1:8080");
    let listener =
        tokio::net::TcpListener::bind(&listen).await.with_context(|| format!("listen={listen}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = async {
        let jetstream = jetstream::new(connect(&nats_url).await);
        eprintln!("listening on {}, queueing to {queue}", listener.local_addr()?);
        let gateway = Arc::new(Gateway { jetstream, queue, functions: Functions::default() });
        axum::serve(listener, axum::Router::new().fallback(serve).with_state(gateway)).await
    };
    // Calls that still run are cut off: this gateway keeps nothing, and its callers are there to cope with
    // that.
    tokio::select! {
        served = serving => served?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

async fn connect(url: &str) -> async_nats::Client {
    let mut told = false;
    loop {
        match async_nats::connect(url).await {
            Ok(client) => return client,
            Err(error) if !told => eprintln!("waiting for NATS: {error}"),
            Err(_) => {}
        }
        told = true;
        sleep(Duration::from_millis(500)).await;
    }
}

async fn serve(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let start = Instant::now();
    let (mut parts, body) = request.into_parts();
    let made_id = stamp(&mut parts.headers);
    let response = gateway.answer(&parts, body, made_id).await;
    let id = parts.headers.get("x-call-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let (method, path, status) = (&parts.method, parts.uri.path(), response.status().as_u16());
    eprintln!("[{id}] {method} {path} - [{status}] - {:.4}s", start.elapsed().as_secs_f64());
    response
}

/// Adds what the gateway adds to every request: a start time, and a call id where the caller chose none (true
/// then).
fn stamp(headers: &mut HeaderMap) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Ok(nanoseconds) = HeaderValue::try_from(now.as_nanos().to_string()) {
        headers.append("x-start-time", nanoseconds);
    }
    if headers.get("x-call-id").is_some_and(|id| !id.is_empty()) {
        return false;
    }
    if let Ok(id) = HeaderValue::try_from(uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-call-id", id);
    }
    true
}

/// `/async-function/NAME/PATH` as (`async-function`, `NAME`, `/PATH`); nothing where the gateway has no such
/// route.
fn route(path: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = path.strip_prefix('/')?.split_once('/')?;
    let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!name.is_empty() && name.chars().all(in_a_name)).then_some((kind, name, path))
}

impl Gateway {
    async fn answer(&self, parts: &Parts, body: Body, made_id: bool) -> Response {
        if parts.uri.path() == "/healthz" {
            return StatusCode::OK.into_response();
        }
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        match route(parts.uri.path()) {
            Some(("function", name, path)) => self.call(name, path, parts, body).await,
            Some(("async-function", name, path)) if parts.method == Method::POST => {
                let answer = self.queue(name, path, parts, &body).await;
                from_gateway(answer.into_response(), &parts.headers, made_id)
            }
            Some(("async-function", ..)) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            _ => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
        }
    }

    async fn call(&self, name: &str, path: &str, parts: &Parts, body: Bytes) -> Response {
        if let Some(answer) = self.functions.call(name, path, parts, body).await {
            return from_gateway(answer, &parts.headers, true);
        }
        // The real gateway answers this before it adds any header of its own, which is how a worker can tell.
        let namespace = if name.contains('.') { "" } else { ".openfaas-fn" };
        let reason = format!("error finding function {name}{namespace}: it is not built in");
        (StatusCode::NOT_FOUND, reason).into_response()
    }

    async fn queue(&self, name: &str, path: &str, parts: &Parts, body: &[u8]) -> (StatusCode, String) {
        let request = match QueueRequest::new(name, path, parts.uri.query(), &parts.headers, body) {
            Ok(request) => request,
            Err(reason) => return (StatusCode::BAD_REQUEST, format!("X-Callback-Url: {reason}")),
        };
        match self.publish(&request).await {
            Ok(()) => (StatusCode::ACCEPTED, String::new()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("Error queuing request: {error}")),
        }
    }

    /// The request is durable once this returns.
    async fn publish(&self, request: &QueueRequest) -> Result<(), PublishError> {
        let json = request.to_json().into();
        self.jetstream.publish(self.queue.clone(), json).await?.await?;
        Ok(())
    }
}

/// Adds the headers by which a gateway's answer is known. A queued call's own id is not told to the caller
/// who chose it.
fn from_gateway(mut response: Response, request: &HeaderMap, with_id: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-served-by", HeaderValue::from_static(SERVED_BY));
    // Of several start times, the last is this gateway's.
    if let Some(start) = request.get_all("x-start-time").iter().next_back() {
        headers.insert("x-start-time", start.clone());
    }
    if let (true, Some(id)) = (with_id, request.get("x-call-id")) {
        headers.insert("x-call-id", id.clone());
    }
    response
}
