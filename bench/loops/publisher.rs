//! The publisher: so many messages, at once or at a rate.

use std::{collections::VecDeque, thread, time::Duration};

use anyhow::{Result, bail};
use async_nats::jetstream;
use tokio::{process::Command, time::Instant};

use crate::{
    message::Template,
    process::{Process, role},
};

/// The most messages, and the most bytes of bodies, that the broker has not confirmed.
const MESSAGES: usize = 1_000;
const BYTES: usize = 16 << 20;

/// Publishes so many messages with bodies of so many bytes; in one second as many as `rate` says, or at once.
pub async fn publish(url: &str, subject: &str, messages: usize, body: usize, rate: usize) -> Result<()> {
    let arguments =
        [url.to_owned(), subject.to_owned(), messages.to_string(), body.to_string(), rate.to_string()];
    let command: Command = role("publisher", &arguments)?;
    Process::spawn(command)?.done().await
}

pub async fn main(arguments: &[String]) -> Result<()> {
    let [url, subject, messages, body, rate] = arguments else { bail!("{arguments:?}") };
    let (messages, body, rate): (u32, usize, u32) = (messages.parse()?, body.parse()?, rate.parse()?);
    let js = jetstream::new(async_nats::connect(url).await?);
    let template = Template::of(body);
    let window = MESSAGES.min(BYTES / body.max(1));
    let mut unconfirmed = VecDeque::new();
    let start = Instant::now();
    for number in 0..messages {
        if rate > 0 {
            // The runtime's timer knows milliseconds only, and its own threads keep the connection meanwhile.
            let due = start + Duration::from_secs(1) * number / rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let message = template.message(number as usize);
        unconfirmed.push_back(js.publish(subject.clone(), message.into()).await?);
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
