//! `queue-worker doctor`: what the guarantee rests on, looked at and judged.
//!
//! ```text
//!  settings ─look─▶ Facts ─checks─▶ Finding … ─┬─report─▶ text or JSON, and an exit code
//!                     └────guarantee──▶ what survives what
//! ```
//!
//! The looking asks and changes nothing: questions to JetStream's API with the worker's own rights, a GET
//! each to the gateway, to the worker beside it and to the broker's monitoring. It is safe while workers run.
//! Everything after it is pure. The cost of a setting of a stream or a consumer is said in
//! [`crate::broker::streams::rules`], and of a version in [`crate::broker::known_issues`], where the worker
//! has it from, too.

mod ask;
mod checks;
mod facts;
mod finding;
mod guarantee;
mod look;
mod mend;
mod pages;
mod report;

use std::time::Duration;

use crate::{
    config::{Doctor, Loaded},
    operate::doctor::report::Report,
};

/// How long the whole look may take, however many queues there are and whatever does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks, and returns what to print and whether all is well.
pub async fn run(loaded: Loaded) -> (String, bool) {
    let Doctor { json, monitor, .. } = loaded.doctor.clone().unwrap_or_default();
    let facts = look::look(loaded, monitor.as_ref(), PATIENCE).await;
    let report = Report { findings: checks::findings(&facts), guaranteed: guarantee::guaranteed(&facts) };
    (if json { report.json() } else { report.text() }, report.is_well())
}
