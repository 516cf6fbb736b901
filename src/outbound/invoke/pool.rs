//! The connections to the gateway, and which of them carries the next request.
//!
//! hyper-util's pool is for any number of places and both versions of HTTP, and a bare loop takes a fifth of
//! its processor time for that. Here all connections go to one place and carry one request at a time.

use std::{
    collections::VecDeque,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use tokio::time::{Instant, sleep};

use super::wire::{Watching, Wire};

/// Connections are retired at this age, so that calls spread over the pods behind a service.
const AGE: Duration = Duration::from_secs(60);
/// A connection that no call used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// The reason for having no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// There is no connection.
    #[error("no connection")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// The connection broke.
    #[error("the connection broke")]
    Broken {
        #[source]
        error: hyper::Error,
        /// Whether nobody can have read the request, which may go out again.
        unread: bool,
    },
}

/// The connections to one place.
#[derive(Debug)]
pub(super) struct Pool {
    place: Uri,
    connector: Watching,
    connections: http1::Builder,
    idle: Arc<Mutex<Idle>>,
}

/// The connections that no call uses, the longest unused first.
#[derive(Debug, Default)]
struct Idle {
    connections: VecDeque<(Instant, Connection)>,
    /// Whether somebody closes those that nobody used for long.
    watched: bool,
}

/// A connection, from the request to the end of the answer. It is closed where it is dropped before.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    wire: Wire,
    made: Instant,
}

impl Pool {
    pub(super) fn new(place: Uri, connector: Watching, connections: http1::Builder) -> Self {
        Self { place, connector, connections, idle: Arc::default() }
    }

    /// Sends a request of a call that `began` just now, and waits for the head of its answer. A connection
    /// that is `new` has served nobody.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        new: bool,
        began: Instant,
    ) -> Result<(Response<Incoming>, Connection), Unanswered> {
        loop {
            let kept = if new { None } else { self.kept(began) };
            let (mut connection, used) = match kept {
                Some(connection) => (connection, true),
                None => (Box::pin(self.connect()).await?, false),
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut failed) => match failed.take_message() {
                    // It was closed before the first byte went out.
                    Some(unsent) if used => request = unsent,
                    _ => {
                        let (error, unread) = (failed.into_error(), connection.wire.is_unread());
                        return Err(Unanswered::Broken { error, unread });
                    }
                },
            }
        }
    }

    /// Keeps a connection whose answer was read to its end by `now`.
    pub(super) fn keep(&self, connection: Connection, now: Instant) {
        if connection.sender.is_closed() || now.duration_since(connection.made) >= AGE {
            return;
        }
        let mut idle = locked(&self.idle);
        idle.connections.push_back((now, connection));
        if !idle.watched {
            idle.watched = true;
            tokio::spawn(close_unused(Arc::downgrade(&self.idle)));
        }
    }

    /// Closes the connections that no call uses.
    pub(super) fn clear(&self) {
        locked(&self.idle).connections.clear();
    }

    /// The one that was used last of those that are free and young. One whose request is still being written,
    /// because its answer came early, is not free, and nobody waits for that.
    fn kept(&self, now: Instant) -> Option<Connection> {
        let is_young = |kept: &Connection| now.duration_since(kept.made) < AGE;
        let free = |(_, kept): &(Instant, Connection)| kept.sender.is_ready() && is_young(kept);
        let connections = &mut locked(&self.idle).connections;
        let place = connections.iter().rposition(free)?;
        connections.remove(place).map(|(_, connection)| connection)
    }

    async fn connect(&self) -> Result<Connection, Unanswered> {
        let (stream, wire) = self.connector.connect(self.place.clone()).await.map_err(Unanswered::Connect)?;
        let made = self.connections.handshake(stream).await;
        let (sender, connection) = made.map_err(|error| Unanswered::Broken { error, unread: false })?;
        tokio::spawn(connection);
        Ok(Connection { sender, wire, made: Instant::now() })
    }
}

/// Closes what no call uses, until nothing is left.
async fn close_unused(idle: Weak<Mutex<Idle>>) {
    loop {
        sleep(IDLE / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = locked(&idle);
        while idle.connections.front().is_some_and(|(since, _)| since.elapsed() >= IDLE) {
            idle.connections.pop_front();
        }
        if idle.connections.is_empty() {
            idle.watched = false;
            return;
        }
    }
}

fn locked(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::outbound::invoke::{client, trust::Trust};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    async fn pool() -> (TcpListener, Pool) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let place = format!("http://{}/", listener.local_addr().unwrap());
        let connector = client::connector(&place.parse().unwrap(), &Trust::read(None).unwrap()).unwrap();
        (listener, Pool::new(place.parse().unwrap(), connector, client::rules()))
    }

    /// Sends a request and reads the answer to its end.
    async fn call(pool: &Pool, bytes: usize) {
        let mut request = Request::new(Full::new(Bytes::from(vec![b'x'; bytes])));
        request.headers_mut().insert("host", http::HeaderValue::from_static("h"));
        let (response, connection) = pool.send(request, false, Instant::now()).await.unwrap();
        response.into_body().collect().await.unwrap();
        pool.keep(connection, Instant::now());
    }

    /// Answers a request as soon as anything of it is there.
    async fn answer(stream: &mut TcpStream) {
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        stream.write_all(ANSWER).await.unwrap();
    }

    #[tokio::test]
    async fn one_call_after_another_takes_one_connection() {
        let (listener, pool) = pool().await;
        let serve = async {
            let mut stream = listener.accept().await.unwrap().0;
            for _ in 0..100 {
                answer(&mut stream).await;
            }
        };
        tokio::join!(serve, async {
            for _ in 0..100 {
                call(&pool, 0).await;
            }
        });
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_whose_answer_came_early() {
        let (listener, pool) = pool().await;
        let mut served = Vec::new();
        let serve = async {
            for _ in 0..2 {
                let mut stream = listener.accept().await.unwrap().0;
                answer(&mut stream).await;
                // It stays open, and nobody reads the rest.
                served.push(stream);
            }
        };
        tokio::join!(serve, async {
            // More than a system keeps for a connection.
            call(&pool, 64 << 20).await;
            call(&pool, 0).await;
        });
        assert_eq!(served.len(), 2);
    }
}
