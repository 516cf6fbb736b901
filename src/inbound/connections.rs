//! The connections of a server: a bounded number of them.
//!
//! Anybody who reaches the port may open connections and send nothing, or little. So where there are too many
//! the oldest is closed that has no whole request under way: neither files nor memory run out, and a probe of
//! Kubernetes, or a caller who sends all at once, gets an answer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::flow::shortage::Shortage;

/// The files that each server keeps for connections in times of shortage.
pub const SPARE: usize = 8;
/// The pause after the system accepted no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait before it is looked again for a connection that may be closed.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a server grants its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most connections at once.
    pub most: usize,
    /// The time for a request's head to come in, for a connection to be idle, and for an answer when its
    /// connection is to end.
    pub patience: Duration,
    /// The age at which a connection is closed. Its client makes another.
    pub age: Option<Duration>,
    /// The time for begun answers when the server ends.
    pub goodbye: Duration,
    /// The most bytes of a request's head.
    pub head: usize,
}

/// Whether a connection has a whole request under way. One that has is not closed for another.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    /// A whole request is there. Its answer ends that.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Serves until `until` is cancelled, and then for no longer than the limits say, whatever the clients do.
pub async fn serve<A>(
    listener: Arc<TcpListener>,
    limits: Limits,
    answer: impl Fn(Request<Incoming>, Busy, Peer) -> A + Clone + Send + Sync + 'static,
    until: CancellationToken,
) where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open = Open::default();
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
        open.forget_ended();
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // An unanswered probe would end the process.
            Err(error) if Shortage::of(&error) == Some(Shortage::Files) && spare.give() => continue,
            Err(_) => {
                // With so many open, the oldest asks nothing.
                if open.0.len() > SPARE {
                    open.close_oldest();
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        spare.refill(&listener);
        while open.0.len() >= limits.most && !open.close_oldest() {
            tokio::select! {
                _ = connections.join_next() => {}
                () = sleep(BUSY_PAUSE) => {}
                () = until.cancelled() => break,
            }
            open.forget_ended();
        }
        let busy = Busy::default();
        let conversation = converse((stream, peer), limits, answer.clone(), busy.clone(), until.clone());
        open.0.push_back((connections.spawn(conversation), busy));
    }
    drop((listener, spare));
    // The set ends the rest.
    let _ = timeout(limits.goodbye, async { while connections.join_next().await.is_some() {} }).await;
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Open(VecDeque<(AbortHandle, Busy)>);

impl Open {
    fn forget_ended(&mut self) {
        self.0.retain(|(connection, _)| !connection.is_finished());
    }

    /// Closes the oldest that has no whole request under way, if there is one.
    fn close_oldest(&mut self) -> bool {
        let idle = self.0.iter().position(|(_, busy)| !busy.is_set());
        let Some((connection, _)) = idle.and_then(|at| self.0.remove(at)) else { return false };
        connection.abort();
        true
    }
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
async fn converse<A>(
    (stream, peer): (TcpStream, SocketAddr),
    limits: Limits,
    answer: impl Fn(Request<Incoming>, Busy, Peer) -> A,
    busy: Busy,
    until: CancellationToken,
) where
    A: Future<Output = Response<Body>>,
{
    // Without it an answer may wait for the client's acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.patience).max_buf_size(limits.head);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request, busy.clone(), Peer(peer));
        let busy = &busy;
        async move {
            let response = answer.await;
            busy.clear();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let aged = async {
        match limits.age {
            Some(age) => sleep(age).await,
            None => pending().await,
        }
    };
    tokio::select! {
        _ = &mut connection => return,
        () = aged => {}
        () = until.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.patience, connection).await;
}
