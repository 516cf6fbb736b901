//! The bars: what the worker is measured against. Each is one test that prints its figures.
//!
//! The short form, which runs with all other tests, is small, and asserts what must hold at any speed.
//! `BARS=full` (`make bars`) has the sizes that the bars are about and asserts the times as well, one bar
//! after the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on has failed"
)]

#[path = "../it/support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the harness belongs to the scenarios; a measurement needs a part of it"
)]
mod support;

mod cost;
mod crowded;
mod fairness;
mod fire;
mod footprint;
mod ingress;
mod killer;
mod lateness;
mod leases;
mod letters;
mod ledger;
mod outage;
mod parked;
mod pause;
mod requests;
mod stan;
mod switch;
mod whereabouts;

use std::{env, time::Duration};

use tokio::time::{Instant, sleep};

/// Whether the full form runs.
fn full() -> bool {
    env::var("BARS").is_ok_and(|form| form == "full")
}

/// The size of a measurement in the short form and in the full form.
fn size<T>(short: T, long: T) -> T {
    if full() { long } else { short }
}

/// Prints a figure against its bar. Only the full form asserts it: on a busy machine a time says nothing.
fn bar(what: &str, figure: f64, limit: f64) {
    let verdict = if figure < limit { "below" } else { "NOT BELOW" };
    println!("bar: {what}: {figure:.3}, {verdict} {limit}");
    assert!(!full() || figure < limit, "{what}: {figure:.3} is not below {limit}");
}

/// Polls until it holds. The limit is a safety net that no measurement comes near.
async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_or(what, holds, async || String::new()).await;
}

/// Polls until it holds; panics with what there is to say about it when it never does.
async fn until_or(
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
    mut explain: impl AsyncFnMut() -> String,
) {
    let limit = Duration::from_secs(size(180, 900));
    let start = Instant::now();
    loop {
        let asked = Instant::now();
        if holds().await {
            return;
        }
        // What the question costs the broker is not to be measured: NATS 2.9 counts all subjects of a stream
        // for each look at a consumer.
        let pause = (9 * asked.elapsed()).max(Duration::from_millis(2));
        assert!(start.elapsed() < limit, "never happened: {what}\n{}", explain().await);
        sleep(pause).await;
    }
}

/// The figure below which this share of all lies.
fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = (last as f64 * share).round() as usize;
    figures[place]
}

fn median(figures: &mut [f64]) -> f64 {
    percentile(figures, 0.5)
}
