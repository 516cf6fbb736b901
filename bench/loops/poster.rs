//! The poster: clients that wait for each acknowledgement, of the ingress or, beside it, of NATS itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    process::Command,
    sync::Mutex,
    time::{Instant, sleep_until},
};

use crate::{
    message::{Form, Template},
    process::{Process, role},
};

/// What the clients saw.
#[derive(Deserialize, Serialize)]
pub struct Posted {
    /// Acknowledgements a second.
    pub rate: f64,
    /// From when a message was to be sent until its acknowledgement, in µs: p50 and p99.
    pub percentiles: [f64; 2],
}

/// So many clients send so many messages; all together in one second as many as `rate` says, or each the next
/// when it has its acknowledgement. To a URL of HTTP, or to NATS and a subject. `delay` is the ingress's
/// `X-Delay`, and may be none.
pub async fn post(
    url: &str,
    subject: &str,
    clients: usize,
    messages: usize,
    body: usize,
    rate: usize,
    delay: &str,
) -> Result<Posted> {
    let numbers = [clients, messages, body, rate].map(|number| number.to_string());
    let arguments = [&[url, subject, delay].map(str::to_owned), &numbers[..]].concat();
    let mut command: Command = role("poster", &arguments)?;
    command.stdout(std::process::Stdio::piped()).stdin(std::process::Stdio::piped());
    let mut process = Process::spawn(command)?;
    let (_input, mut output) = process.pipes()?;
    let line = output.next_line().await?.context("the poster has ended")?;
    process.done().await?;
    Ok(serde_json::from_str(&line)?)
}

/// The next number, and when its message is to be sent.
struct Turns {
    next: Mutex<u32>,
    messages: u32,
    rate: u32,
    start: Instant,
}

impl Turns {
    async fn next(&self) -> Option<(usize, Instant)> {
        let mut next = self.next.lock().await;
        let number = *next;
        *next += 1;
        drop(next);
        if number >= self.messages {
            return None;
        }
        if self.rate == 0 {
            return Some((number as usize, Instant::now()));
        }
        let due = self.start + Duration::from_secs(1) * number / self.rate;
        sleep_until(due).await;
        Some((number as usize, due))
    }
}

pub async fn main(arguments: &[String]) -> Result<()> {
    let [url, subject, delay, clients, messages, body, rate] = arguments else { bail!("{arguments:?}") };
    let (clients, body): (usize, usize) = (clients.parse()?, body.parse()?);
    let turns = Turns {
        next: Mutex::default(),
        messages: messages.parse()?,
        rate: rate.parse()?,
        start: Instant::now(),
    };
    let template = Arc::new(Template::of(Form::Http, body, 1));
    let start = Instant::now();
    let waits = if url.starts_with("nats:") {
        let js = jetstream::new(async_nats::connect(url).await?);
        try_join_all((0..clients).map(|_| to_nats(&js, subject, &turns, &template))).await?
    } else {
        try_join_all((0..clients).map(|_| to_ingress(url, subject, delay, &turns, &template))).await?
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut waits: Vec<_> = waits.into_iter().flatten().map(|wait| wait.as_secs_f64() * 1e6).collect();
    waits.sort_unstable_by(f64::total_cmp);
    let below = |share: f64| {
        let place = (waits.len().saturating_sub(1) as f64 * share).round() as usize;
        waits.get(place).copied().unwrap_or(f64::NAN)
    };
    let posted = Posted { rate: waits.len() as f64 / seconds, percentiles: [0.5, 0.99].map(below) };
    println!("{}", serde_json::to_string(&posted)?);
    Ok(())
}

async fn to_nats(
    js: &jetstream::Context,
    subject: &str,
    turns: &Turns,
    template: &Template,
) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while let Some((number, since)) = turns.next().await {
        let (headers, payload) = template.message(number);
        js.publish_with_headers(subject.to_owned(), headers, payload).await?.await?;
        waits.push(since.elapsed());
    }
    Ok(waits)
}

/// On one connection, as a client keeps it.
async fn to_ingress(
    host: &str,
    path: &str,
    delay: &str,
    turns: &Turns,
    template: &Template,
) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut waits = Vec::new();
    while let Some((number, since)) = turns.next().await {
        let (headers, payload) = template.message(number);
        let mut request = Request::post(path).header(HOST, host);
        if !delay.is_empty() {
            request = request.header("X-Delay", delay);
        }
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            request = request.header(name, values.first().map_or("", |value| value.as_str()));
        }
        sender.ready().await?;
        let answer = sender.send_request(request.body(Full::<Bytes>::from(payload))?).await?;
        ensure!(answer.status() == StatusCode::ACCEPTED, "{}", answer.status());
        answer.into_body().collect().await?;
        waits.push(since.elapsed());
    }
    Ok(waits)
}
