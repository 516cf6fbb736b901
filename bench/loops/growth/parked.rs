//! Others are served beside many parked messages as beside none: on two brokers, in turn. The bare loop says
//! what of a difference is the broker's own.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join;

use super::row::{Bar, Rounds, count, row};
use crate::{
    answers::Answers,
    contender::Contender,
    plan::Plan,
    run::{Figures, Lab, Run},
};

/// The share of the rate, MiB, and milliseconds at 2,000 due a second.
const RATE: f64 = 0.9;
const MEMORY: f64 = 5.0;
const LATENESS: f64 = 600.0;
/// The most rounds of retries, which take their time.
const DUE_ROUNDS: usize = 3;

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let messages = plan.growth.parked;
    let parked = format!("{} parked", count(messages));

    let mut other = Lab::start("parked").await?;
    let empty = other.memory()?;
    let parking = other.park(messages, body, concurrency).await?;
    row(&format!("{parked}: messages/s meanwhile"), &[f64::NAN], &[parking.rate], Bar::None);
    row(&format!("{parked}: MiB resident of who did it"), &[f64::NAN], &[parking.resident], Bar::None);
    idle(plan, lab, &other, &parked).await?;
    let full = other.memory()?;
    row(&format!("none, {parked}: NATS, MiB resident"), &[empty], &[full], Bar::None);
    fresh(plan, lab, &mut other, &parked).await?;
    due(plan, lab, &mut other, &parked).await?;
    lab.merge(other);

    let mut other = Lab::start("delayed").await?;
    other.delay(concurrency, messages, body).await?;
    let delayed = format!("{} delayed", count(messages));
    idle(plan, lab, &other, &delayed).await?;
    let what = format!("{parked}, as many delayed: NATS, MiB resident");
    row(&what, &[full], &[other.memory()?], Bar::Times(1.1));
    fresh(plan, lab, &mut other, &delayed).await?;
    lab.merge(other);
    Ok(())
}

/// Workers without messages. It stands before messages that none of them has called: a worker that has just
/// started looks for the retry of each that is little younger than the last that was parked.
async fn idle(plan: &Plan, lab: &Lab, other: &Lab, beside: &str) -> Result<()> {
    let (_, concurrency) = plan.usual();
    let (worker, wait) = (Contender::worker(), Duration::from_secs(plan.growth.idle));
    let (less, more) =
        try_join(lab.idle(&worker, concurrency, wait), other.idle(&worker, concurrency, wait)).await?;
    let of = format!("none, {beside}: idle");
    row(&format!("{of}, CPU, ms a second"), &[less.cpu], &[more.cpu], Bar::None);
    row(&format!("{of}, NATS's CPU, ms a second"), &[less.broker_cpu], &[more.broker_cpu], Bar::None);
    row(&format!("{of}, MiB resident"), &[less.resident], &[more.resident], Bar::More(MEMORY));
    Ok(())
}

/// Messages of which none fails.
async fn fresh(plan: &Plan, lab: &mut Lab, other: &mut Lab, beside: &str) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let run = Run { messages: plan.growth.messages, body, concurrency, ..Run::default() };
    for contender in [Contender::bare("bare", "plain"), Contender::worker()] {
        let mut rounds = Rounds::default();
        for round in 0..plan.rounds {
            // Each is the first as often as the second.
            if round % 2 == 0 {
                rounds.less.push(lab.run(&contender, run).await?);
                rounds.more.push(other.run(&contender, run).await?);
            } else {
                rounds.more.push(other.run(&contender, run).await?);
                rounds.less.push(lab.run(&contender, run).await?);
            }
        }
        let bar = |bar| if contender.is_worker() { bar } else { Bar::None };
        let of = format!("none, {beside}: {}", contender.name);
        rounds.row(&format!("{of}, messages/s"), |figures| figures.rate, bar(Bar::Share(RATE)));
        rounds.row(&format!("{of}, CPU, µs a message"), |figures| figures.cpu, Bar::None);
        rounds.row(&format!("{of}, NATS's CPU, µs a message"), |figures| figures.broker_cpu, Bar::None);
        rounds.row(&format!("{of}, MiB resident"), |figures| figures.resident, bar(Bar::More(MEMORY)));
    }
    Ok(())
}

/// Messages of which each fails once.
async fn due(plan: &Plan, lab: &mut Lab, other: &mut Lab, beside: &str) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let (messages, rate, wait) = plan.growth.due;
    let answers = Answers::SuccessAfter(wait);
    let run = Run { messages, body, concurrency, rate, answers, ..Run::default() };
    let worker = Contender::worker();
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds.min(DUE_ROUNDS) {
        rounds.less.push(lab.run(&worker, run).await?);
        rounds.more.push(other.run(&worker, run).await?);
    }
    let of = format!("none, {beside}: lateness at {}/s, ms", count(rate));
    rounds.row(&format!("{of}: p50"), |Figures { lateness: [p50, _], .. }| *p50, Bar::None);
    rounds.row(&format!("{of}: p99"), |Figures { lateness: [_, p99], .. }| *p99, Bar::Most(LATENESS));
    Ok(())
}

impl Lab {
    /// Adds messages to those that all runs have beside them: a worker has called each once, and it failed.
    async fn park(&mut self, messages: usize, body: usize, concurrency: usize) -> Result<Figures> {
        let run = Run { messages, body, concurrency, answers: Answers::Failure, ..Run::default() };
        let figures = self.run(&Contender::worker(), run).await?;
        self.broker.parked += messages as u64;
        Ok(figures)
    }

    /// The broker's, in MiB.
    fn memory(&self) -> Result<f64> {
        self.broker.process.meter.memory("VmRSS")
    }
}
