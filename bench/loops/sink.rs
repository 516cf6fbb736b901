//! The sink: a gateway whose function takes what comes, and keeps the account of it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{self, AsyncReadExt as _},
    net::TcpListener,
    sync::Notify,
    time::sleep,
};

use crate::message::{NUMBER, PUBLISHED, now};

/// What has been seen of a run.
#[derive(Deserialize, Serialize)]
pub struct Report {
    /// Messages that came.
    pub called: usize,
    /// Calls beyond the first of each.
    pub repeated: usize,
    /// Calls of which number or body were not what was published.
    pub damaged: usize,
    /// The most calls that were open at once.
    pub open: usize,
    /// From the first call to the last.
    pub seconds: f64,
    /// From publishing to the function, in µs: p50, p99 and p99.9.
    pub percentiles: [f64; 3],
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

/// The account of one run.
#[derive(Default)]
struct Account {
    /// The first calls' ways from publishing to the function, by the messages' numbers.
    waits: Vec<Option<u64>>,
    body: usize,
    called: usize,
    repeated: usize,
    damaged: usize,
    open: usize,
    most_open: usize,
    first: u64,
    last: u64,
}

impl Account {
    /// Whether all have come now.
    fn enter(&mut self, number: Option<usize>, published: Option<u64>, body: usize) -> bool {
        let now = now();
        self.open += 1;
        self.most_open = self.most_open.max(self.open);
        let place = number.and_then(|number| self.waits.get_mut(number));
        match (place, published) {
            (Some(Some(_)), _) => self.repeated += 1,
            (Some(place), Some(published)) if body == self.body => {
                *place = Some(now.saturating_sub(published));
                self.called += 1;
                self.first = self.first.min(now);
                self.last = self.last.max(now);
            }
            _ => self.damaged += 1,
        }
        self.called == self.waits.len()
    }

    fn report(&self) -> Report {
        let mut waits: Vec<_> = self.waits.iter().flatten().copied().collect();
        waits.sort_unstable();
        let below = |share: f64| {
            let place = (waits.len().saturating_sub(1) as f64 * share).round() as usize;
            waits.get(place).map_or(f64::NAN, |wait| *wait as f64 / 1e3)
        };
        Report {
            called: self.called,
            repeated: self.repeated,
            damaged: self.damaged,
            open: self.most_open,
            seconds: self.last.saturating_sub(self.first) as f64 / 1e9,
            percentiles: [0.5, 0.99, 0.999].map(below),
        }
    }
}

/// Prints its port, then a line when all have come; a report when its input ends, and ends itself.
pub async fn main(arguments: &[String]) -> Result<()> {
    let [messages, body, delay] = arguments else { bail!("{arguments:?}") };
    let (waits, body) = (vec![None; messages.parse()?], body.parse()?);
    let delay = Duration::from_millis(delay.parse()?);
    let account = Account { waits, body, first: u64::MAX, ..Account::default() };
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
                if lock(&account).enter(number, published, size) {
                    complete.notify_one();
                }
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                lock(&account).open -= 1;
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}
