//! A backlog, and the memory of the worker that drains it.

use anyhow::Result;

use super::row::{Bar, count, row};
use crate::{
    contender::Contender,
    plan::Plan,
    run::{Lab, Run},
};

/// In MiB.
const FLAT: f64 = 5.0;

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    let (body, concurrency) = plan.usual();
    let messages = plan.growth.backlog;
    let run = Run { messages, body, concurrency, ..Run::default() };
    let figures = lab.run(&Contender::worker(), run).await?;
    let after = |share: f64| {
        let left = messages as f64 * (1.0 - share);
        let far = |look: &u64| (*look as f64 - left).abs();
        let nearest = figures.looks.iter().min_by(|a, b| far(&a.left).total_cmp(&far(&b.left)));
        nearest.map_or(f64::NAN, |look| look.resident)
    };
    let of = format!("{} drained", count(messages));
    let tenth = [after(0.1)];
    row(&format!("{of}: messages/s"), &[f64::NAN], &[figures.rate], Bar::None);
    row(&format!("{of}: MiB resident after 10 %, after 50 %"), &tenth, &[after(0.5)], Bar::More(FLAT));
    row(&format!("{of}: MiB resident after 10 %, after 90 %"), &tenth, &[after(0.9)], Bar::More(FLAT));
    row(&format!("{of}: MiB resident after 10 %, at most"), &tenth, &[figures.peak], Bar::More(FLAT));
    Ok(())
}
