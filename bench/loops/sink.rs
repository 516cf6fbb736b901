//! The sink: a gateway whose function takes what comes, and keeps the account of it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{self, AsyncReadExt as _},
    net::TcpListener,
    sync::Notify,
    time::sleep,
};

use crate::{
    message::{NUMBER, PUBLISHED, now},
    run::Run,
};

/// What has been seen of a run.
#[derive(Deserialize, Serialize)]
pub struct Report {
    /// Messages that came, as often as they had to.
    pub called: usize,
    /// Calls beyond these.
    pub repeated: usize,
    /// Calls of which number or body were not what was published.
    pub damaged: usize,
    /// The most calls that were open at once.
    pub open: usize,
    /// From the first call to the last.
    pub seconds: f64,
    /// From publishing to the function, in µs: p50, p99 and p99.9.
    pub percentiles: [f64; 3],
    /// From when a message was due again to its next call, in ms: p50 and p99.
    pub lateness: [f64; 2],
    /// Calls by each replica.
    pub shares: Vec<usize>,
}

impl Report {
    /// A run is void where a message was lost, repeated or damaged.
    pub fn conserved(&self, messages: usize) -> Result<()> {
        let Self { called, repeated, damaged, .. } = self;
        let lost = messages - called;
        ensure!(
            lost + repeated + damaged == 0,
            "of {messages} messages {lost} were lost, {repeated} repeated and {damaged} damaged"
        );
        Ok(())
    }
}

/// What has been seen of a message.
#[derive(Clone, Copy, Default)]
struct Seen {
    calls: usize,
    /// When a call of it failed last.
    failed: u64,
}

/// The account of one run.
#[derive(Default)]
struct Account {
    run: Run,
    /// By the messages' numbers.
    seen: Vec<Seen>,
    /// The first calls' ways from publishing to the function.
    waits: Vec<u64>,
    lateness: Vec<u64>,
    /// Calls by the first part of their path, which is another one for each replica.
    shares: BTreeMap<String, usize>,
    called: usize,
    repeated: usize,
    damaged: usize,
    open: usize,
    most_open: usize,
    first: u64,
    last: u64,
}

impl Account {
    fn enter(&mut self, number: Option<usize>, published: Option<u64>, body: usize, path: &str) {
        let now = now();
        let answers = self.run.answers;
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        let seen = number.and_then(|number| self.seen.get_mut(number));
        match (seen, published) {
            (Some(seen), _) if seen.calls == answers.calls() => self.repeated += 1,
            (Some(seen), Some(published)) if body == self.run.body => {
                if seen.calls == 0 {
                    self.waits.push(now.saturating_sub(published));
                } else {
                    self.lateness.push(now.saturating_sub(seen.failed + answers.wait()));
                }
                seen.calls += 1;
                self.called += usize::from(seen.calls == answers.calls());
                self.first = self.first.min(now);
                self.last = self.last.max(now);
                let replica = path.split('/').nth(1).unwrap_or_default();
                if let Some(calls) = self.shares.get_mut(replica) {
                    *calls += 1;
                } else {
                    self.shares.insert(replica.to_owned(), 1);
                }
            }
            _ => self.damaged += 1,
        }
    }

    fn complete(&self) -> bool {
        self.called == self.seen.len()
    }

    /// What a call is answered with now.
    fn leave(&mut self, number: Option<usize>) -> StatusCode {
        self.open -= 1;
        match number.and_then(|number| self.seen.get_mut(number)) {
            Some(seen) if seen.calls <= self.run.answers.failures() => {
                seen.failed = now();
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::OK,
        }
    }

    fn report(&mut self) -> Report {
        self.waits.sort_unstable();
        self.lateness.sort_unstable();
        let below = |all: &[u64], share: f64, unit: f64| {
            let place = (all.len().saturating_sub(1) as f64 * share).round() as usize;
            all.get(place).map_or(0.0, |wait| *wait as f64 / unit)
        };
        Report {
            called: self.called,
            repeated: self.repeated,
            damaged: self.damaged,
            open: self.most_open,
            seconds: self.last.saturating_sub(self.first) as f64 / 1e9,
            percentiles: [0.5, 0.99, 0.999].map(|share| below(&self.waits, share, 1e3)),
            lateness: [0.5, 0.99].map(|share| below(&self.lateness, share, 1e6)),
            shares: self.shares.values().copied().collect(),
        }
    }
}

/// Prints its port, then a line when all have come; a report when its input ends, and ends itself.
pub async fn main(arguments: &[String]) -> Result<()> {
    let [run] = arguments else { bail!("{arguments:?}") };
    let run: Run = serde_json::from_str(run)?;
    let delay = Duration::from_millis(run.delay);
    let seen = vec![Seen::default(); run.messages];
    let account = Account { run, seen, first: u64::MAX, ..Account::default() };
    let (account, complete) = (Arc::new(Mutex::new(account)), Arc::new(Notify::new()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    tokio::spawn(accept(listener, Arc::clone(&account), Arc::clone(&complete), delay));
    tokio::spawn(async move {
        complete.notified().await;
        println!("complete");
    });
    io::stdin().read_to_end(&mut Vec::new()).await?;
    let report = lock(&account).report();
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(
    listener: TcpListener,
    account: Arc<Mutex<Account>>,
    complete: Arc<Notify>,
    delay: Duration,
) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await.context("the sink accepts no more")?;
        socket.set_nodelay(true)?;
        let (account, complete) = (Arc::clone(&account), Arc::clone(&complete));
        let service = service_fn(move |request: Request<Incoming>| {
            let (account, complete) = (Arc::clone(&account), Arc::clone(&complete));
            async move {
                let (parts, body) = request.into_parts();
                let size = body.collect().await.map_or(usize::MAX, |body| body.to_bytes().len());
                let text = |name| parts.headers.get(name)?.to_str().ok();
                let number = text(NUMBER).and_then(|number| number.parse().ok());
                let published = text(PUBLISHED).and_then(|published| published.parse().ok());
                let all = {
                    let mut account = lock(&account);
                    account.enter(number, published, size, parts.uri.path());
                    account.complete()
                };
                if all {
                    complete.notify_one();
                }
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                let mut answer = Response::new(Empty::<Bytes>::new());
                *answer.status_mut() = lock(&account).leave(number);
                Ok::<_, Infallible>(answer)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}
