//! The publisher: so many messages, at once or at a rate.

use std::{collections::VecDeque, thread, time::Duration};

use anyhow::{Result, bail};
use async_nats::jetstream;
use tokio::{process::Command, time::Instant};

use crate::{
    message::{Form, Template},
    process::{Process, role},
};

/// The most messages, and the most bytes of bodies, that the broker has not confirmed.
const MESSAGES: usize = 1_000;
const BYTES: usize = 16 << 20;

/// Publishes so many messages with bodies of so many bytes; in one second as many as `rate` says, or at once.
pub async fn publish(
    url: &str,
    subject: &str,
    form: Form,
    messages: usize,
    body: usize,
    rate: usize,
) -> Result<()> {
    let input = form.input().unwrap_or("openfaas");
    let numbers = [messages, body, rate].map(|number| number.to_string());
    let arguments = [&[url.to_owned(), subject.to_owned(), input.to_owned()], &numbers[..]].concat();
    let command: Command = role("publisher", &arguments)?;
    Process::spawn(command)?.done().await
}

pub async fn main(arguments: &[String]) -> Result<()> {
    let [url, subject, input, messages, body, rate] = arguments else { bail!("{arguments:?}") };
    let (messages, body, rate): (u32, usize, u32) = (messages.parse()?, body.parse()?, rate.parse()?);
    let js = jetstream::new(async_nats::connect(url).await?);
    let template = Template::of(Form::of(input), body);
    let window = MESSAGES.min(BYTES / body.max(1));
    let mut unconfirmed = VecDeque::new();
    let start = Instant::now();
    for number in 0..messages {
        if rate > 0 {
            // The runtime's timer knows milliseconds only, and its own threads keep the connection meanwhile.
            let due = start + Duration::from_secs(1) * number / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (headers, payload) = template.message(number as usize);
        // Without headers it is another command, which costs less.
        unconfirmed.push_back(if headers.is_empty() {
            js.publish(subject.clone(), payload).await?
        } else {
            js.publish_with_headers(subject.clone(), headers, payload).await?
        });
        // At a rate nobody waits for a broker that is behind: the next message would be late.
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
