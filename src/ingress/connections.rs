//! The connections of callers: a bounded number of them. Where there are too many, the oldest is closed that
//! has no whole request under way, so that clients which send slowly keep nobody out.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Ingress;

/// The most connections at once.
pub const MOST: usize = 512;
/// The time for a request's head to come in, and for a connection to be idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time for requests under way when the server ends.
const GOODBYE: Duration = Duration::from_secs(10);
/// The most bytes of a request's head. NATS stores 64 KiB of headers.
const HEAD: usize = 64 << 10;
/// The pause after the system accepted no connection, or all of them are busy.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether a connection has a whole request under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `until` is cancelled, and then until the requests under way have their answers.
pub(super) async fn serve(listener: Arc<TcpListener>, ingress: Ingress, until: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<(AbortHandle, Busy)> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = until.cancelled() => break,
        };
        oldest.retain(|(connection, _)| !connection.is_finished());
        if oldest.len() >= MOST || accepted.is_err() {
            match oldest.iter().position(|(_, busy)| !busy.is_set()).and_then(|at| oldest.remove(at)) {
                Some((connection, _)) => connection.abort(),
                None => sleep(PAUSE).await,
            }
        }
        let Ok((stream, _)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let busy = Busy::default();
        let conversation = converse(stream, ingress.clone(), busy.clone(), until.clone());
        oldest.push_back((connections.spawn(conversation), busy));
    }
    let _ = timeout(GOODBYE, async { while connections.join_next().await.is_some() {} }).await;
}

/// One connection, from its first request to its end.
async fn converse(stream: TcpStream, ingress: Ingress, busy: Busy, until: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(HEAD);
    let service = service_fn(|request| {
        let (ingress, busy) = (ingress.clone(), busy.clone());
        async move {
            let response = ingress.answer(request, &busy).await;
            busy.clear();
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = &mut connection => return,
        () = until.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
