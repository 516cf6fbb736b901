//! Latency: from publishing to the function, at a steady rate, from the first message after a start on.

use anyhow::{Context as _, Result};

use crate::{
    plan::Plan,
    run::{Lab, Run},
    table::{Table, bytes},
};

/// For how many seconds half of the maximum is published.
const SECONDS: usize = 5;

pub async fn measure(plan: &Plan, lab: &mut Lab, table: &mut Table) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let of = [bytes(body), concurrency.to_string()];
    let mut rates = plan.rates.clone();
    if plan.half_of_maximum {
        // The worker's: one rate for all, or the figures would not be of the same load.
        let messages = plan.messages(body, concurrency);
        let run = Run { messages, body, concurrency, ..Run::default() };
        let worker = table.contenders().iter().find(|contender| contender.is_worker());
        let maximum = lab.run(worker.context("no worker")?, run).await?.rate;
        rates.push(((maximum / 2.0) as usize, SECONDS));
    }
    for (rate, seconds) in rates {
        let run = Run { messages: rate * seconds, body, concurrency, rate, ..Run::default() };
        let rows = ["p50", "p99", "p99.9"].map(|percentile| format!("{percentile} at {rate}/s, µs"));
        let figures = async |contender: &_| Ok(lab.run(contender, run).await?.percentiles);
        table.fill(&of, rows, plan.rounds, figures).await?;
    }
    Ok(())
}
