//! Throughput and processor time: a full queue is emptied.

use anyhow::Result;

use crate::{
    plan::Plan,
    run::{Lab, Run},
    table::{Table, bytes},
};

pub async fn measure(plan: &Plan, lab: &mut Lab, table: &mut Table) -> Result<()> {
    for &body in &plan.bodies {
        for &concurrency in &plan.concurrency {
            let run =
                Run { messages: plan.messages(body, concurrency), body, concurrency, rate: 0, delay: 0 };
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
