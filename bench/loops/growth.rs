//! Cost as the work grows: with little of it, and with much.

mod backlog;
mod functions;
mod parked;
mod replicas;
mod row;

use anyhow::Result;

use crate::{plan::Plan, run::Lab};

pub async fn measure(plan: &Plan, lab: &mut Lab) -> Result<()> {
    row::head(plan.rounds);
    functions::measure(plan, lab).await?;
    replicas::measure(plan, lab).await?;
    backlog::measure(plan, lab).await?;
    parked::measure(plan, lab).await
}
