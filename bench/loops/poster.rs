//! The poster: clients that wait for each acknowledgement, of the ingress or, beside it, of NATS itself.

use std::{
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    time::{Instant, sleep_until},
};

use crate::{
    client::Client,
    message::{Form, Template},
    process::{Process, role},
};

/// The way of a message from a client to a stream.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Way {
    /// By POST to the ingress, on a connection that the client keeps.
    #[default]
    Http,
    /// To NATS, on a connection that the client keeps.
    Nats,
    /// To NATS, with the client library, on one connection for all clients.
    Shared,
}

/// So many clients send so many messages; all together in one second as many as `rate` says, or each the next
/// when it has its acknowledgement.
#[derive(Clone, Default, Deserialize, Serialize)]
pub struct Post {
    pub way: Way,
    pub address: String,
    /// HTTP's path, or NATS's subject.
    pub path: String,
    /// The ingress's `X-Delay`, and may be none.
    pub delay: String,
    pub clients: usize,
    pub messages: usize,
    pub body: usize,
    pub rate: usize,
}

/// What the clients saw.
#[derive(Deserialize, Serialize)]
pub struct Posted {
    /// Acknowledgements a second.
    pub rate: f64,
    /// From when a message was to be sent until its acknowledgement, in µs: p50 and p99.
    pub percentiles: [f64; 2],
}

/// A process of its own sends them.
pub async fn post(post: &Post) -> Result<Posted> {
    let mut command: Command = role("poster", &[serde_json::to_string(post)?])?;
    command.stdout(Stdio::piped()).stdin(Stdio::piped());
    let mut process = Process::spawn(command)?;
    let (_input, mut output) = process.pipes()?;
    let line = output.next_line().await?.context("the poster has ended")?;
    process.done().await?;
    Ok(serde_json::from_str(&line)?)
}

/// The next number, and when its message is to be sent.
struct Turns {
    next: AtomicUsize,
    messages: usize,
    rate: usize,
    start: Instant,
}

impl Turns {
    async fn next(&self) -> Option<(usize, Instant)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.messages {
            return None;
        }
        if self.rate == 0 {
            return Some((number, Instant::now()));
        }
        let due = self.start + Duration::from_secs_f64(number as f64 / self.rate as f64);
        sleep_until(due).await;
        Some((number, due))
    }
}

pub async fn main(arguments: &[String]) -> Result<()> {
    let [post] = arguments else { bail!("{arguments:?}") };
    let post: Post = serde_json::from_str(post)?;
    let template = Template::of(Form::Http, post.body, 1);
    let shared = match post.way {
        Way::Shared => Some(jetstream::new(async_nats::connect(&post.address).await?)),
        Way::Http | Way::Nats => None,
    };
    let connected = (0..post.clients).map(|client| Client::connect(&post, &template, client));
    let clients = if shared.is_none() { try_join_all(connected).await? } else { Vec::new() };
    let start = Instant::now();
    let turns = Turns { next: AtomicUsize::new(0), messages: post.messages, rate: post.rate, start };
    let waits = if let Some(js) = &shared {
        try_join_all((0..post.clients).map(|_| share(js, &post.path, &turns, &template))).await?
    } else {
        try_join_all(clients.into_iter().map(|client| send(client, &turns))).await?
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

async fn send(mut client: Client, turns: &Turns) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while let Some((number, since)) = turns.next().await {
        client.send(number).await?;
        waits.push(since.elapsed());
    }
    Ok(waits)
}

async fn share(
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
