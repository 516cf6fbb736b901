//! A gateway, or a receiver of callbacks, that answers by script and remembers every call.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{
    answer::{Answer, Manner},
    free_port, http, listen, patiently,
};

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which call it is of those with its call id (of those to its target, if it has none), from 1.
    pub nth: usize,
    /// The request itself.
    pub request: http::Message,
    /// When all of it was there.
    pub arrived: Instant,
    /// How and when it ended; the time is taken before the answer is written.
    pub end: Option<(Instant, End)>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer, whole or broken off on purpose.
    Answered,
    /// The gateway reset the connection in the middle of one.
    Torn,
    /// The gateway closed the connection without one.
    HungUp,
    /// The caller closed the connection first.
    Cut,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    pub fn id(&self) -> &str {
        self.header("x-call-id").unwrap_or_default()
    }

    /// `X-Retry` as a number; panics if there is none.
    pub fn retry(&self) -> u32 {
        self.header("x-retry")
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no X-Retry: {self:?}"))
    }

    /// Path and query, byte for byte.
    pub fn target(&self) -> &str {
        self.request.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The function the path names.
    pub fn function(&self) -> &str {
        let path = self.target().split('?').next().unwrap_or_default();
        path.strip_prefix("/function/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// How the call ended, if it did.
    pub fn fate(&self) -> Option<End> {
        self.end.map(|(_, end)| end)
    }

    fn key(&self) -> &str {
        if self.id().is_empty() { self.target() } else { self.id() }
    }
}

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

/// An HTTP server on a loopback port of its own. It listens until it is stopped or dropped.
pub struct Gateway {
    port: u16,
    script: Arc<Script>,
    book: Arc<Book>,
    serving: Option<JoinHandle<()>>,
}

impl Gateway {
    /// A gateway that listens already.
    pub async fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let book = Arc::new(Book { pages: Mutex::default(), changed: watch::Sender::new(()) });
        let mut gateway = Self { port: free_port(), script: Arc::new(script), book, serving: None };
        gateway.open().await;
        gateway
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Listens again, on the same port.
    pub async fn open(&mut self) {
        let listener = listen(self.port).await;
        let (script, book) = (Arc::clone(&self.script), Arc::clone(&self.book));
        self.serving = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, book) = (Arc::clone(&script), Arc::clone(&book));
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &*script, &book).await {
                        eprintln!("gateway: {error}");
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// Closes the listener and every connection.
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// All calls so far, in the order in which they arrived.
    pub fn calls(&self) -> Vec<Call> {
        self.book.pages.lock().unwrap().calls.clone()
    }

    /// The calls with this call id.
    pub fn calls_of(&self, id: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.id() == id).collect()
    }

    /// Takes the calls out of the gateway's memory that came before any that runs still: what goes on for
    /// hours would fill it.
    pub fn take_ended(&self) -> Vec<Call> {
        let mut pages = self.book.pages.lock().unwrap();
        let ended = pages.calls.iter().position(|call| call.end.is_none()).unwrap_or(pages.calls.len());
        pages.taken += ended;
        pages.calls.drain(..ended).collect()
    }

    /// How many calls have arrived.
    pub fn count(&self) -> usize {
        let pages = self.book.pages.lock().unwrap();
        pages.taken + pages.calls.len()
    }

    /// How many calls run now.
    pub fn running(&self) -> usize {
        self.book.pages.lock().unwrap().running
    }

    /// How many calls there are like this.
    pub fn count_that(&self, holds: impl Fn(&Call) -> bool) -> usize {
        self.book.pages.lock().unwrap().calls.iter().filter(|call| holds(call)).count()
    }

    /// The most calls that ran at once.
    pub fn most_at_once(&self) -> usize {
        self.book.pages.lock().unwrap().most
    }

    /// Awaits the arrival of the nth call and returns all so far.
    pub async fn await_calls(&self, n: usize) -> Vec<Call> {
        self.await_that(&format!("call {n}"), |calls| calls.len() >= n).await
    }

    /// Awaits the end of n calls and returns all calls so far.
    pub async fn await_ended(&self, n: usize) -> Vec<Call> {
        self.await_that(&format!("the end of {n} calls"), |calls| {
            calls.iter().filter(|call| call.end.is_some()).count() >= n
        })
        .await
    }

    /// Awaits a state of the calls.
    pub async fn await_that(&self, what: &str, holds: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let mut changed = self.book.changed.subscribe();
        patiently(what, async {
            while !holds(&self.book.pages.lock().unwrap().calls) {
                let _ = changed.changed().await;
            }
        })
        .await;
        self.calls()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
        if std::thread::panicking() {
            let calls = self.calls();
            eprintln!("--- gateway {}: the last of {} calls", self.address(), calls.len());
            for call in calls.iter().skip(calls.len().saturating_sub(20)) {
                eprintln!(
                    "{} id={} retry={:?} {:?}",
                    call.request.start,
                    call.id(),
                    call.header("x-retry"),
                    call.fate()
                );
            }
        }
    }
}

/// What the gateway remembers.
struct Book {
    pages: Mutex<Pages>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Pages {
    calls: Vec<Call>,
    /// How many calls stood before these.
    taken: usize,
    seen: HashMap<String, usize>,
    running: usize,
    most: usize,
}

impl Book {
    fn arrived(&self, request: http::Message) -> (usize, Call) {
        let mut call = Call { nth: 0, request, arrived: Instant::now(), end: None };
        let mut pages = self.pages.lock().unwrap();
        let nth = pages.seen.entry(call.key().to_owned()).or_default();
        *nth += 1;
        call.nth = *nth;
        pages.calls.push(call.clone());
        pages.running += 1;
        pages.most = pages.most.max(pages.running);
        let place = pages.taken + pages.calls.len() - 1;
        drop(pages);
        self.changed.send_replace(());
        (place, call)
    }

    fn ended(&self, place: usize, end: End) {
        let mut pages = self.pages.lock().unwrap();
        let place = place - pages.taken;
        pages.calls[place].end = Some((Instant::now(), end));
        pages.running -= 1;
        drop(pages);
        self.changed.send_replace(());
    }
}

/// Ends a call as hung up, unless it ended otherwise, also when its connection's task is aborted.
struct Running<'a> {
    book: &'a Book,
    place: usize,
    end: End,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.book.ended(self.place, self.end);
    }
}

async fn serve(stream: TcpStream, script: &Script, book: &Book) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    while let Some(request) = http::read(&mut connection).await? {
        let (place, call) = book.arrived(request);
        let mut running = Running { book, place, end: End::HungUp };
        let answer = script(&call);
        let cut = tokio::select! {
            () = answer.due() => false,
            // Nobody pipelines, so what becomes readable before the answer is the end of the connection.
            _ = connection.fill_buf() => true,
        };
        if cut {
            running.end = End::Cut;
            return Ok(());
        }
        if let Manner::HangUp = answer.manner {
            return Ok(());
        }
        let torn = matches!(answer.manner, Manner::Torn(_));
        running.end = if torn { End::Torn } else { End::Answered };
        drop(running);
        connection.write_all(&answer.to_bytes()).await?;
        if torn {
            connection.get_ref().set_zero_linger()?;
            return Ok(());
        }
        if let Manner::BrokenOff = answer.manner {
            return Ok(());
        }
    }
    Ok(())
}
