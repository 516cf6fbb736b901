//! Many functions beside one.

use anyhow::Result;

use super::row::{Bar, Rounds, count};
use crate::{
    contender::Contender,
    plan::Plan,
    run::{Lab, Run},
};

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let run = Run { messages: plan.growth.messages, body, concurrency, ..Run::default() };
    let worker = Contender::worker();
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        rounds.less.push(lab.run(&worker, run).await?);
        rounds.more.push(lab.run(&worker, Run { functions: plan.growth.functions, ..run }).await?);
    }
    let of = format!("1 function, {}", count(plan.growth.functions));
    rounds.row(&format!("{of}: rate, messages/s"), |figures| figures.rate, Bar::None);
    rounds.row(&format!("{of}: CPU, µs a message"), |figures| figures.cpu, Bar::None);
    rounds.row(&format!("{of}: MiB resident"), |figures| figures.resident, Bar::None);
    Ok(())
}
