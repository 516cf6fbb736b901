//! One call: an invocation becomes a POST to the gateway, and the answer an [`Outcome`].
//!
//! The client is hyper's, because a queue must pass a request on as it is: reqwest adds an `Accept` header
//! and re-encodes query strings.

mod client;
mod headers;
mod kept;
mod pool;
mod target;
mod trust;
mod turns;
mod wire;
mod why;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, uri::PathAndQuery};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout_at},
};
use url::Url;

pub(crate) use self::client::like_it;
pub use self::target::NoTarget;
pub use self::trust::{Trust, Untrustworthy};
pub use self::why::root;
use self::{
    headers::headers,
    kept::Kept,
    pool::{Pool, Unanswered},
    target::Target,
};
use crate::{
    config,
    flow::{
        memory::Room,
        shortage::{Lately, Shortage},
    },
    message::{answer::Answer, decode::Invocation},
    observe::trace::Post,
    retry::judge::{Outcome, Reply},
};

/// The bytes of every answer's body that are looked at: enough to know the gateway's own words.
const HEAD: usize = 64;

/// The longest URL that the HTTP library takes.
const LONGEST_URL: usize = (u16::MAX - 1) as usize;

/// The client's words for trailers that HTTP does not allow.
const ODD_TRAILERS: [&str; 3] = ["invalid header name", "invalid header value", "invalid new line"];

/// The most names of headers: a `HeaderMap` holds 24,576 and panics when its user, hyper, adds one more.
const MOST_HEADERS: usize = 20_000;

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The invocation.
    pub invocation: &'a Invocation,
    /// Its URL without the query, as the gateway's own [`target`](Gateway::target) has it.
    pub url: &'a str,
    /// Its call id: its own, or the one made for it.
    pub call_id: &'a str,
    /// Retries so far, from 0.
    pub retry: u32,
    /// The last retry's number.
    pub retry_max: u32,
    /// The most bytes of the answer's body that are kept.
    pub keep: usize,
    /// The call's part in its invocation's trace.
    pub span: &'a Post,
}

/// The reason for making no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCalled {
    /// No request can be made of the invocation.
    #[error("{0}")]
    Unsendable(String),
    /// This machine was short of something.
    #[error("this worker is short of {}", .0.as_str())]
    Short(Shortage),
}

/// The seam to the gateway.
pub trait Gateway: Send + Sync + 'static {
    /// Makes the call and reads its answer to the end. Dropping the future closes the connection.
    ///
    /// # Errors
    /// See [`NotCalled`].
    fn call(&self, call: Call<'_>) -> impl Future<Output = Result<Answer, NotCalled>> + Send;

    /// The URL of the call as logs may show it, without its query.
    fn target(&self, invocation: &Invocation) -> String;

    /// Closes the connections that are kept for later: others are short of what they take.
    fn close_idle(&self) {}
}

/// The gateway behind `gateway_url`, or a queue's own target. The clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpGateway {
    base: String,
    limit: Duration,
    /// The memory for answers.
    room: Room,
    pool: Arc<Pool>,
    /// What stands in `Host`.
    host: HeaderValue,
    /// How calls are made that are no functions'.
    target: Option<Arc<Target>>,
    lately: Arc<Lately>,
}

impl HttpGateway {
    /// The gateway at `base`, whose certificate has to be of an authority that is trusted; a call may take
    /// `limit`, and answers are kept in the `room`.
    ///
    /// # Errors
    /// Where the system's certificates cannot be read, which only an https gateway needs.
    pub fn new(base: &Url, trust: &Trust, limit: Duration, room: &Room) -> io::Result<Self> {
        let connector = client::connector(base, trust)?;
        // A URL's own parts are parts of a URL, and no user stands in this one.
        let place = Uri::try_from(base.as_str()).map_err(io::Error::other)?;
        let host = HeaderValue::try_from(base.authority()).map_err(io::Error::other)?;
        let pool = Arc::new(Pool::new(place, connector, client::rules()));
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, limit, room: room.clone(), pool, host, target: None, lately: Arc::default() })
    }

    /// The same for the calls of a target, whose URL the invocations have, at the origin `base`. They are
    /// made as the `request` says.
    ///
    /// # Errors
    /// Likewise; and where the token cannot be read.
    pub fn to_target(
        base: &Url,
        request: &config::Request,
        trust: &Trust,
        limit: Duration,
        room: &Room,
    ) -> Result<Self, NoTarget> {
        let target = Some(Arc::new(Target::new(request.clone())?));
        Ok(Self { target, ..Self::new(base, trust, limit, room)? })
    }

    fn request(
        &self,
        call: Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, NotCalled> {
        let names = call.invocation.headers.len();
        if names > MOST_HEADERS {
            return Err(NotCalled::Unsendable(format!(
                "it has {names} headers, and {MOST_HEADERS} are the most that can be sent"
            )));
        }
        let mut target = call.url.to_owned();
        if !call.invocation.query.is_empty() {
            target.push('?');
            target.push_str(
                &percent_encoding::utf8_percent_encode(&call.invocation.query, NOT_IN_QUERIES).to_string(),
            );
        }
        if target.len() > LONGEST_URL {
            let length = target.len();
            return Err(NotCalled::Unsendable(format!(
                "its URL has {length} bytes, and {LONGEST_URL} are the most that can be sent"
            )));
        }
        let uri = Bytes::from(target).slice(path_of(call.url)..);
        let uri = PathAndQuery::from_maybe_shared(uri)
            .map_err(|error| NotCalled::Unsendable(format!("its URL cannot be sent: {error}")))?;
        let mut request = Request::new(Full::new(call.invocation.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.into();
        *request.headers_mut() = headers(call, &self.host);
        if let Some(target) = &self.target {
            *request.method_mut() = target.method();
            target.set(request.headers_mut(), authorization.cloned());
        }
        Ok(request)
    }

    /// The outcome of a request without an answer.
    async fn unanswered(&self, error: Unanswered) -> Failure {
        let (connected, cause) = (matches!(error, Unanswered::Broken { .. }), root(&error));
        let short = if connected { Shortage::of(&error) } else { self.lately.on_the_way(&error) };
        drop(error);
        match short {
            None if connected => Failure::Outcome(Outcome::Broken(cause)),
            None => Failure::Outcome(Outcome::Unreachable(cause)),
            Some(Shortage::Ports) if !is_reachable(&self.base).await => {
                Failure::Outcome(Outcome::Unreachable(cause))
            }
            Some(short) => {
                // Idle connections take files and ports, too.
                self.close_idle();
                Failure::Short(short)
            }
        }
    }
}

impl Gateway for HttpGateway {
    async fn call(&self, call: Call<'_>) -> Result<Answer, NotCalled> {
        let authorization = match &self.target {
            Some(target) => target.authorization().await,
            None => None,
        };
        let request = self.request(call, authorization.as_ref())?;
        let began = Instant::now();
        let mut limit = began + self.limit;
        let answered = async {
            let mut answered = self.pool.send(request, false, began).await;
            if matches!(answered, Err(Unanswered::Broken { unread: true, .. }))
                && let Ok(again) = self.request(call, authorization.as_ref())
            {
                tracing::debug!(
                    callId = call.call_id,
                    "the connection was closed as the call went out; it goes out on a new one"
                );
                answered = self.pool.send(again, true, began).await;
            }
            match answered {
                Ok(answered) => Ok(answered),
                Err(error) => Err(self.unanswered(error).await),
            }
        };
        let result = match timeout_at(limit, answered).await {
            Ok(Ok((response, connection))) => {
                read(response, call.keep, &self.room, &mut limit).await.map(|read| (read, connection))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_elapsed) => Err(Failure::Outcome(Outcome::TimedOut)),
        };
        let ended = Instant::now();
        let took = self.limit.saturating_sub(limit.saturating_duration_since(ended));
        match result {
            Ok(((mut reply, headers, body, truncated), connection)) => {
                // What was not read to its end ended with its connection.
                self.pool.keep(connection, ended);
                // No target speaks for OpenFaaS's gateway.
                reply.not_found_text &= self.target.is_none();
                Ok(Answer { outcome: Outcome::Replied(reply), took, headers, body, truncated })
            }
            Err(Failure::Outcome(outcome)) => {
                Ok(Answer { outcome, took, headers: HeaderMap::new(), body: Bytes::new(), truncated: false })
            }
            Err(Failure::Short(short)) => Err(NotCalled::Short(short)),
        }
    }

    fn target(&self, invocation: &Invocation) -> String {
        let function =
            || [&self.base, "/function/", invocation.function.as_str(), &invocation.target_path()].concat();
        invocation.url.clone().unwrap_or_else(function)
    }

    fn close_idle(&self) {
        self.pool.clear();
    }
}

/// The reason for having no answer.
enum Failure {
    Outcome(Outcome),
    Short(Shortage),
}

/// Whether there is a way to one of the addresses of a URL at all. A system that has no address of the right
/// kind says what it says when no port is left; of the ports for datagrams, which nobody else here uses, some
/// always are.
pub(crate) async fn is_reachable(url: &str) -> bool {
    let Some(url) = Url::parse(url).ok() else { return false };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let Ok(addresses) = lookup_host((host.trim_matches(['[', ']']), port)).await else { return false };
    addresses.into_iter().any(|address| {
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
    })
}

/// The characters that no URL's query may hold. All others pass unchanged.
const NOT_IN_QUERIES: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'#').add(b'<').add(b'>').add(b'"').add(b'`');

/// Where the path begins in a URL that has a scheme and a place.
fn path_of(url: &str) -> usize {
    let first = |text: &str, wanted| text.bytes().position(|byte| byte == wanted);
    let place = first(url, b':').map_or(0, |scheme| scheme + "://".len());
    url.get(place..).and_then(|rest| first(rest, b'/')).map_or(url.len(), |path| place + path)
}

/// Reads an answer to its end, keeps `keep` bytes of it, and forgets the rest as it comes. A wait for room in
/// memory is ours, and the `limit` moves with it.
async fn read(
    response: Response<hyper::body::Incoming>,
    keep: usize,
    room: &Room,
    limit: &mut Instant,
) -> Result<(Reply, HeaderMap, Bytes, bool), Failure> {
    let (parts, mut body) = response.into_parts();
    let mut kept = Kept::new(room, keep.max(HEAD), body.size_hint().exact());
    let mut seen: usize = 0;
    while let Some(frame) =
        timeout_at(*limit, body.frame()).await.map_err(|_elapsed| Failure::Outcome(Outcome::TimedOut))?
    {
        let frame = match frame {
            Ok(frame) => frame,
            // They come after the last byte of the body, and nobody reads them.
            Err(error) if ODD_TRAILERS.contains(&root(&error).as_str()) => break,
            Err(error) => return Err(Failure::Outcome(Outcome::Broken(root(&error)))),
        };
        if let Some(data) = frame.data_ref() {
            seen = seen.saturating_add(data.len());
            *limit += kept.add(data).await;
        }
    }
    let reply = Reply::new(parts.status, &parts.headers, kept.bytes());
    let kept = kept.into_bytes(keep);
    let is_cut = seen > kept.len();
    Ok((reply, parts.headers, kept, is_cut))
}
