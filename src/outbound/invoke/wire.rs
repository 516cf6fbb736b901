//! Watches the bytes of a connection, to tell whether the other side may have closed it before it saw the
//! last request.
//!
//! A server closes a connection that was idle for long, and the next request may be on its way just then.
//! Nobody has read that request, so it may go out again. The rule is the one of browsers: the connection has
//! served a request before, not a byte answers this one, and the end comes within a moment of its sending.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tower_service::Service;

use super::turns::Turns;

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
    /// Whether nobody can have read the last request, though it went out.
    pub(super) fn is_unread(&self) -> bool {
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

impl Watching {
    /// Makes one to the place of a URL, and the notes about it.
    pub(super) async fn connect(
        &self,
        place: Uri,
    ) -> Result<(TokioIo<Watched>, Wire), Box<dyn std::error::Error + Send + Sync>> {
        let mut connector = self.0.clone();
        poll_fn(|context| connector.poll_ready(context)).await?;
        let (stream, wire) = (TokioIo::new(connector.call(place).await?), Wire::default());
        let watched = Watched { stream, wire: wire.clone(), turns: Turns::default() };
        Ok((TokioIo::new(watched), wire))
    }
}

/// A connection that notes what passes over it.
pub(super) struct Watched {
    stream: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    wire: Wire,
    turns: Turns,
}

impl Watched {
    fn wrote(&mut self) {
        self.wire.wrote();
        self.turns.wrote();
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
            self.turns.read(context);
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
        self.wrote();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wrote();
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
