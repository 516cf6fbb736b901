//! Throughput and processor time: a full queue is emptied.

use anyhow::Result;

use crate::{
    contender::Contender,
    plan::Plan,
    run::{Lab, Run},
    table::{Table, bytes},
};

pub async fn measure(plan: &Plan, lab: &mut Lab, table: &mut Table) -> Result<()> {
    for &body in &plan.bodies {
        for &concurrency in &plan.concurrency {
            let messages = plan.messages(body, concurrency);
            let run = Run { messages, body, concurrency, ..Run::default() };
            let rows = ["rate, messages/s", "CPU, µs a message", "NATS's CPU, µs a message"];
            let of = [bytes(body), concurrency.to_string()];
            let figures = async |contender: &_| {
                let figures = lab.run(contender, run).await?;
                Ok([figures.rate, figures.cpu, figures.broker_cpu])
            };
            table.fill(&of, rows.map(str::to_owned), plan.rounds, figures).await?;
        }
    }
    Ok(())
}

/// The same with workers that differ in a setting, for bodies and calls at once that are usual.
pub async fn beside_itself(workers: Vec<Contender>, plan: &Plan, lab: &mut Lab) -> Result<()> {
    println!();
    let mut table = Table::begin(workers, plan.rounds);
    let (body, concurrency) = plan.usual();
    let plan = Plan { bodies: vec![body], concurrency: vec![concurrency], ..plan.clone() };
    measure(&plan, lab, &mut table).await
}
