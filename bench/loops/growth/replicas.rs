//! Replicas on one queue: which of them makes how many calls.

use anyhow::{Result, ensure};

use super::row::{Bar, row};
use crate::{
    contender::Contender,
    plan::Plan,
    run::{Lab, Run},
};

const REPLICAS: usize = 4;
/// Messages a second that nobody can keep up with.
const FLOOD: usize = 100_000;

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let worker = Contender::worker();
    let growth = &plan.growth;
    let (calm, seconds) = growth.calm;
    for (load, rate, messages) in
        [("with more than they can do", FLOOD, growth.messages), ("with time left", calm, calm * seconds)]
    {
        // No message is published before all of them ask: none has a start over the others.
        let run = Run { messages, body, concurrency, rate, replicas: REPLICAS, ..Run::default() };
        let (mut least, mut most) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            let shares = lab.run(&worker, run).await?.shares;
            ensure!(shares.len() <= REPLICAS, "{shares:?} by {REPLICAS} replicas");
            let share = |calls: usize| calls as f64 / run.messages as f64 * 100.0;
            // One that made no call is missing.
            let idle = if shares.len() < REPLICAS { Some(0) } else { None };
            least.extend(shares.iter().copied().chain(idle).min().map(share));
            most.extend(shares.iter().copied().max().map(share));
        }
        row(&format!("{REPLICAS} replicas {load}: least and most, %"), &least, &most, Bar::Times(1.1));
    }
    Ok(())
}
