//! Reads a request: who asks, for what, and whether they may.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use axum::http::{HeaderMap, Method, Request, StatusCode, header, request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    problem::{Fault, Problem},
    routes::{Route, find},
    values::{self, Values},
};
use crate::{
    config::Config,
    inbound::{connections::Peer, tokens::Tokens},
    message::letter::choice::Choice,
    outbound::lookup::Lookup,
    text::line::{cut, is_unruly},
};

/// The most bytes of a body.
const MOST: usize = 64 << 10;
/// The time for one to come in.
const BODY: Duration = Duration::from_secs(10);
/// Says who asks. Whoever has a token is believed.
const OPERATOR: &str = "x-operator";
/// A caller's key.
const KEY: &str = "idempotency-key";
/// The longest one.
const LONGEST_KEY: usize = 255;
/// The longest name of anybody.
const NAME: usize = 64;

/// What requests are let in by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admission<'a> {
    pub(super) tokens: Option<&'a Tokens>,
    pub(super) config: &'a Config,
    pub(super) lookup: &'a Lookup,
}

/// A request that a caller may send again.
#[derive(Debug, Clone)]
pub(super) struct Again {
    pub(super) key: String,
    /// Its body.
    pub(super) words: Bytes,
}

/// A request that may be answered.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) route: &'static Route,
    /// The parameters of its path and query.
    pub(super) values: Values,
    pub(super) body: Values,
    /// The key under which it may be asked for again, with the words.
    pub(super) again: Option<Again>,
    /// Who asks.
    pub(super) by: String,
    /// Whether bodies and values of headers are for whoever asks.
    pub(super) trusted: bool,
    pub(super) lookup: Lookup,
}

impl Asked {
    /// The queue that it is about, if it is about one.
    pub(super) fn queue(&self) -> Option<String> {
        self.values.text("queue").map(str::to_owned)
    }

    /// Whether it changes anything.
    pub(super) fn is_change(&self) -> bool {
        self.route.method != "GET"
    }

    /// What is done, and who asks, for the log.
    pub(super) fn act(&self) -> (&'static str, String) {
        (self.route.name, self.by.clone())
    }
}

impl Admission<'_> {
    /// Lets a request in.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) async fn admit(&self, request: Request<Incoming>) -> Result<Asked, Problem> {
        let (head, body) = request.into_parts();
        if let Some(tokens) = self.tokens {
            tokens.admit(head.headers.get(header::AUTHORIZATION)).await?;
        }
        let (route, mut values) = find(method(&head.method), head.uri.path())?;
        let trusted = self.tokens.is_some();
        if route.method != "GET" && !trusted {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the API only reads: a worker with api_token_file lets whoever has a token change things",
            ));
        }
        let faults = values::query(head.uri.query().unwrap_or_default(), route.params(), &mut values);
        if !faults.is_empty() {
            return Err(Problem::faulty(faults));
        }
        if values.flag("reveal") && !trusted {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "secrets are shown by a worker with api_token_file only",
            ));
        }
        self.is_served(&values)?;
        let words = read(&head.headers, body).await?;
        if route.body.is_some() {
            is_json(&head.headers, &words)?;
        }
        let said = said(route, &words)?;
        let key = if route.body.is_some() { key(&head.headers)? } else { None };
        let again = key.map(|key| Again { key, words });
        let (by, lookup) = (by(&head, trusted), self.lookup.clone());
        Ok(Asked { route, values, body: said, again, by, trusted, lookup })
    }

    /// Whether the queue that is meant is this worker's.
    fn is_served(&self, values: &Values) -> Result<(), Problem> {
        let Some(queue) = values.text("queue") else { return Ok(()) };
        let queues = &self.config.queues;
        if queues.iter().any(|known| known.name == queue) {
            return Ok(());
        }
        let names: Vec<_> = queues.iter().map(|queue| queue.name.as_str()).collect();
        let fault = Fault::new("queue", queue, &format!("one that this worker serves: {}", names.join(", ")));
        Err(Problem::faulty(vec![fault]).with(StatusCode::NOT_FOUND))
    }
}

/// Which letters a request means, or the problem with it: paths, queries and bodies without a connection.
///
/// # Errors
/// The problem, as callers are told it.
pub fn meant(method: &str, path: &str, query: &str, body: &[u8]) -> Result<Choice, Value> {
    let told = |problem: Problem| problem.document();
    let (route, mut values) = find(method, path).map_err(told)?;
    let faults = values::query(query, route.params(), &mut values);
    if !faults.is_empty() {
        return Err(told(Problem::faulty(faults)));
    }
    let said = said(route, body).map_err(told)?;
    /// Any time at which ages have a beginning.
    const NOW: Duration = Duration::from_secs(1_800_000_000);
    Ok(said.object("filter").unwrap_or(&values).choice(SystemTime::UNIX_EPOCH + NOW))
}

fn method(method: &Method) -> &str {
    if method == Method::HEAD { "GET" } else { method.as_str() }
}

/// Who asks: a name that is given, and the address.
fn by(head: &request::Parts, trusted: bool) -> String {
    let address = head.extensions.get::<Peer>().map(|Peer(peer)| SocketAddr::ip(peer).to_canonical());
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    let told = head.headers.get(OPERATOR).and_then(|name| name.to_str().ok()).filter(|_| trusted);
    let told: String = told.unwrap_or_default().chars().filter(|c| !is_unruly(*c)).collect();
    match cut(told.trim(), NAME) {
        "" => format!("api@{address}"),
        name => format!("{name} (api@{address})"),
    }
}

/// The caller's key, which makes a request that is sent again the same one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text =
        key.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()) && keys.next().is_none());
    let expected = format!("one key of 1 to {LONGEST_KEY} printable characters");
    let fault = || Fault::new(KEY, &String::from_utf8_lossy(key.as_bytes()), &expected);
    text.map(|key| Some(key.to_owned())).ok_or_else(|| Problem::faulty(vec![fault()]))
}

/// Reads what a body says. Where a route has none, one that says something is for another.
fn said(route: &Route, words: &[u8]) -> Result<Values, Problem> {
    match route.body {
        Some(fields) => values::body(words, fields).map_err(Problem::faulty),
        None if matches!(words.trim_ascii(), b"" | b"{}") => Ok(Values::default()),
        None => {
            let fault = Fault::new("(body)", &String::from_utf8_lossy(words), "no body");
            Err(Problem::faulty(vec![fault]))
        }
    }
}

/// Reads a body.
async fn read(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Problem> {
    let larger =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {MOST} bytes"));
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if told.is_some_and(|told: u64| told > MOST as u64) {
        return Err(larger());
    }
    let read = timeout(BODY, Limited::new(body, MOST).collect()).await;
    let read =
        read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    let read = read.map_err(|error| {
        if error.is::<LengthLimitError>() {
            larger()
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "the body broke off")
        }
    })?;
    Ok(read.to_bytes())
}

/// A body is JSON, if there is one.
fn is_json(headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if body.is_empty() || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("Content-Type={kind:?}: expected application/json"),
    ))
}
