//! The connections to the pages: few, and none for long.
//!
//! Anybody who reaches the port may open connections and send nothing. So the oldest connection is closed
//! when there are too many: neither files nor memory run out, and a probe of Kubernetes always gets its
//! answer.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    http::{Request, Uri, uri::PathAndQuery},
};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::flow::shortage::Shortage;

/// The most connections at once. Real clients are a few scrapers and probes.
const MOST: usize = 32;
/// The time for a request to come in, for a connection to be idle, and for an answer when its connection is
/// to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The age at which a connection is closed. Its client makes another.
const AGE: Duration = Duration::from_secs(60);
/// The time for begun answers when the server ends.
const GOODBYE: Duration = Duration::from_millis(500);
/// The most bytes of a request's head.
const HEAD: usize = 16 << 10;
/// The files that are kept for connections.
const SPARE: usize = 8;
/// The pause after the system accepted no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the pages until `until` is cancelled, and then for no more than half a second, whatever the clients
/// do.
pub(super) async fn serve(listener: Arc<TcpListener>, pages: Router, until: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    let mut spare = Spare::of(&listener);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => {
                spare.refill(&listener);
                continue;
            }
            () = until.cancelled() => break,
        };
        oldest.retain(|connection| !connection.is_finished());
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // An unanswered probe would end the process.
            Err(error) if Shortage::of(&error) == Some(Shortage::Files) && spare.give() => continue,
            Err(_) => {
                // With so many open, the oldest asks nothing.
                if oldest.len() > SPARE {
                    oldest.pop_front().inspect(AbortHandle::abort);
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        spare.refill(&listener);
        if oldest.len() >= MOST
            && let Some(connection) = oldest.pop_front()
        {
            connection.abort();
        }
        oldest.push_back(connections.spawn(converse(stream, pages.clone(), until.clone())));
    }
    drop((listener, spare));
    // The set ends the rest.
    let _ = timeout(GOODBYE, async { while connections.join_next().await.is_some() {} }).await;
}

/// Files that are kept for times of shortage: each makes room for a connection.
struct Spare(Vec<OwnedFd>);

impl Spare {
    fn of(listener: &TcpListener) -> Self {
        let mut spare = Self(Vec::new());
        spare.refill(listener);
        spare
    }

    /// Lets one go, if there is one.
    fn give(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// Keeps as many as there are to be, as far as there are any.
    fn refill(&mut self, listener: &TcpListener) {
        while self.0.len() < SPARE {
            let Ok(file) = listener.as_fd().try_clone_to_owned() else { return };
            self.0.push(file);
        }
    }
}

/// One connection, from its first request to its end.
async fn converse(stream: TcpStream, pages: Router, until: CancellationToken) -> Result<(), hyper::Error> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD);
    let pages = TowerToHyperService::new(pages);
    let service = service_fn(|request| pages.call(plain(request)));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut connection => return ended,
        () = sleep(AGE) => {}
        () = until.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(PATIENCE, connection).await.unwrap_or(Ok(()))
}

/// The same request without empty path segments: `//healthz/` is `/healthz`. People write probes by hand.
fn plain<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    let path: String = uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| format!("/{segment}"))
        .collect();
    if path != uri.path() && uri.path().starts_with('/') {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = if path.is_empty() { "/" } else { &path };
        if let Ok(plain) = format!("{target}{query}").parse::<PathAndQuery>() {
            *request.uri_mut() = Uri::from(plain);
        }
    }
    request
}
