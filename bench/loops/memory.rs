//! Memory: of one that does nothing, and of many calls that are open at once. It hardly varies, and slow
//! calls take their time: one round.

use std::time::Duration;

use anyhow::Result;

use crate::{
    plan::Plan,
    run::{Lab, Run},
    table::{Table, bytes},
};

/// How long one does nothing before it is looked at.
const IDLE: Duration = Duration::from_secs(2);

pub async fn measure(plan: &Plan, lab: &mut Lab, table: &mut Table) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let idle = async |contender: &_| Ok([lab.idle(contender, concurrency, IDLE).await?.resident]);
    table.fill(&["–".to_owned(), concurrency.to_string()], ["idle, MiB".to_owned()], 1, idle).await?;
    for &(calls, delay) in &plan.slow {
        let run = Run { messages: calls, body, concurrency: calls, delay, ..Run::default() };
        let rows = ["slow calls, MiB resident", "slow calls, MiB at most", "slow calls, most at once"];
        let figures = async |contender: &_| {
            let figures = lab.run(contender, run).await?;
            Ok([figures.resident, figures.peak, figures.open])
        };
        table.fill(&[bytes(body), calls.to_string()], rows.map(str::to_owned), 1, figures).await?;
    }
    Ok(())
}
