//! Watches the bytes of a connection, to tell whether the other side may have closed it before it saw the
//! last request.
//!
//! A server closes a connection that was idle for long, and the next request may be on its way just then.
//! Nobody has read that request, so it may go out again. The rule is the one of browsers: the connection has
//! served a request before, not a byte answers this one, and the end comes within a moment of its sending.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Extensions, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Error,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tower_service::Service;

/// The time for a request to reach a server, and for the end of the connection to come back. A gateway that
/// hangs up later has read the request and may have called the function.
const MOMENT: Duration = Duration::from_millis(150);

/// The notes about a connection. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Past>>);

#[derive(Debug, Default)]
struct Past {
    /// Whether the connection ever carried an answer.
    served: bool,
    /// The moment of the first byte that nothing has answered since.
    asked: Option<Instant>,
}

impl Wire {
    /// Whether the request that failed so may be sent again.
    pub(super) fn was_stale(error: &Error) -> bool {
        let mut told = Extensions::new();
        error.connect_info().into_iter().for_each(|connected| connected.get_extras(&mut told));
        told.get::<Self>().is_some_and(Self::is_unread)
    }

    fn is_unread(&self) -> bool {
        let past = self.past();
        past.served && past.asked.is_some_and(|asked| asked.elapsed() < MOMENT)
    }

    fn wrote(&self) {
        self.past().asked.get_or_insert_with(Instant::now);
    }

    fn read(&self) {
        let mut past = self.past();
        past.served |= past.asked.take().is_some();
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes connections that note what passes over them.
#[derive(Debug, Clone)]
pub(super) struct Watching(pub(super) HttpsConnector<HttpConnector>);

impl Service<Uri> for Watching {
    type Response = TokioIo<Watched>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let watched = |stream| TokioIo::new(Watched { stream: TokioIo::new(stream), wire: Wire::default() });
        self.0.call(target).map_ok(watched).boxed()
    }
}

/// A connection that notes what passes over it.
pub(super) struct Watched {
    stream: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    wire: Wire,
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.inner().connected().extra(self.wire.clone())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.wire.read();
        }
        Poll::Ready(Ok(()))
    }
}

/// A try to write counts: a connection that was closed a moment ago may say so at the first byte.
impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wire.wrote();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_unread_where_a_connection_that_served_ends_at_once_without_a_byte() {
        let wire = Wire::default();
        wire.wrote();
        assert!(!wire.is_unread(), "nobody closes a connection before its first request");
        wire.read();
        assert!(!wire.is_unread(), "an answer has begun");
        wire.wrote();
        assert!(wire.is_unread());
        tokio::time::advance(MOMENT / 2).await;
        wire.wrote();
        assert!(wire.is_unread());
        tokio::time::advance(MOMENT / 2).await;
        assert!(!wire.is_unread(), "whoever hangs up so late has read it");
        wire.read();
        assert!(!wire.is_unread());
    }
}
