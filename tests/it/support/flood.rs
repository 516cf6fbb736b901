//! A server whose answers are no answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::http;

/// What is said to a request, byte for byte; then the connection is closed.
#[derive(Clone, Debug)]
pub struct Flood {
    /// What it begins with.
    pub first: Bytes,
    /// What follows, again and again.
    pub then: Bytes,
    /// How often.
    pub times: u64,
    /// The pause before each of them.
    pub every: Duration,
    /// What it ends with.
    pub last: Bytes,
}

impl Flood {
    /// Says this, then that without end and without a pause.
    pub fn endless(first: impl Into<Bytes>, then: impl Into<Bytes>) -> Self {
        Self {
            first: first.into(),
            then: then.into(),
            times: u64::MAX,
            every: Duration::ZERO,
            last: Bytes::new(),
        }
    }

    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    pub fn and(self, last: impl Into<Bytes>) -> Self {
        Self { last: last.into(), ..self }
    }

    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }
}

/// A server that floods whoever asks.
pub struct Flooder {
    address: SocketAddr,
    said: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Flooder {
    /// A server that says to each request what the script says.
    pub async fn start(script: impl Fn(&http::Message) -> Flood + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, said) = (Arc::new(script), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&said);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, said) = (Arc::clone(&script), Arc::clone(&count));
                // A worker that has had enough closes the connection, and that is the end of it.
                connections.spawn(async move { drop(serve(stream, &*script, &said).await) });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, said, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many bytes were said.
    pub fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    stream: TcpStream,
    script: &(dyn Fn(&http::Message) -> Flood + Send + Sync),
    said: &AtomicU64,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    let Some(request) = http::read(&mut connection).await? else { return Ok(()) };
    let flood = script(&request);
    connection.write_all(&flood.first).await?;
    for _ in 0..flood.times {
        sleep(flood.every).await;
        connection.write_all(&flood.then).await?;
        said.fetch_add(flood.then.len() as u64, Ordering::Relaxed);
    }
    connection.write_all(&flood.last).await?;
    connection.shutdown().await
}
