//! The publisher: so many messages, at once or at a rate.

use std::{collections::VecDeque, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::context::ContextBuilder;
use tokio::{process::Command, time::Instant};

use crate::{
    broker::SUBJECT,
    message::{Form, Template},
    process::{Process, role},
    run::Run,
};

/// The most messages, and the most bytes of bodies, that the broker has not confirmed.
const MESSAGES: usize = 1_000;
const BYTES: usize = 16 << 20;

/// Publishes the messages of a run; in one second as many as its `rate` says, or at once.
pub async fn publish(url: &str, form: Form, run: Run) -> Result<()> {
    let input = form.input().unwrap_or("openfaas");
    let arguments = [url.to_owned(), input.to_owned(), serde_json::to_string(&run)?];
    let command: Command = role("publisher", &arguments)?;
    Process::spawn(command)?.done().await.context("the publisher")
}

pub async fn main(arguments: &[String]) -> Result<()> {
    let [url, input, run] = arguments else { bail!("{arguments:?}") };
    let Run { messages, body, rate, functions, .. } = serde_json::from_str(run)?;
    // At a rate nobody waits for a broker that is behind, and nor may the client library.
    let js = ContextBuilder::new().max_ack_inflight(messages + 1).build(async_nats::connect(url).await?);
    let template = Template::of(Form::of(input), body, functions);
    let window = MESSAGES.min(BYTES / body.max(1));
    let mut unconfirmed = VecDeque::new();
    let start = Instant::now();
    for number in 0..messages {
        if rate > 0 {
            // The runtime's timer knows milliseconds only, and its own threads keep the connection meanwhile.
            let due = start + Duration::from_secs_f64(number as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (headers, payload) = template.message(number);
        // Without headers it is another command, which costs less.
        unconfirmed.push_back(if headers.is_empty() {
            js.publish(SUBJECT, payload).await?
        } else {
            js.publish_with_headers(SUBJECT, headers, payload).await?
        });
        // The next message would be late.
        if rate == 0
            && unconfirmed.len() > window
            && let Some(confirmation) = unconfirmed.pop_front()
        {
            confirmation.await?;
        }
    }
    for confirmation in unconfirmed {
        confirmation.await?;
    }
    Ok(())
}
