//! The alerts and the dashboard, in a real Prometheus that scrapes real workers.
//!
//! Prometheus is `PROMETHEUS`, with `promtool` beside it, else what `tests/prometheus.sh` finds or fetches.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a scenario that cannot go on has failed"
)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the harness belongs to the scenarios; these need a part of it")]
mod support;

mod alerts;
mod dashboard;
mod prometheus;
mod rules;

use std::{fs, path::Path};

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rules.
const ALERTS: &str = "chart/queue-worker/files/alerts.yaml";
