//! The real loop on a broker and a gateway in memory, in virtual time, under weather that a seed decides.
//!
//! A seed that fails is printed; `SIM_SEED=<seed>` runs it alone and shows what happened, `SIM_SEEDS=<number>` runs more of
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "all of this is a test, and may fail")]

mod broker;
mod gateway;
mod ledger;
mod plan;
mod planted;
mod server;
mod shared;
mod tap;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use plan::Plan;
use planted::Bug;
use world::run;

/// The seeds to run: the one that is asked for, else the first so many.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(usual),
    }
}

/// Runs each seed in a world of its own, some side by side.
fn check(plan: fn(u64) -> Plan, seeds: Range<u64>) {
    let verbose = seeds.end - seeds.start == 1;
    let next = AtomicU64::new(seeds.start);
    let (failed, tally) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeMap::<_, usize>::new()));
    let some = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
            let report = run(plan(seed), None);
            if verbose {
                println!("{:#?}\n{}", plan(seed), report.trace.join("\n"));
            }
            if !report.broken.is_empty() {
                failed.lock().unwrap().insert(format!("SIM_SEED={seed}: {}", report.broken.join("; ")));
            }
            for (what, number) in report.tally {
                *tally.lock().unwrap().entry(what).or_default() += number;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(some);
        }
    });
    println!("{:?}", tally.lock().unwrap());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} seeds break an invariant:\n{}", failed.len(), failed.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_message_comes_to_one_end_whatever_the_weather() {
    check(Plan::of, seeds(200));
}

#[test]
fn in_calm_weather_each_script_is_played_once_and_exactly() {
    check(Plan::calm, seeds(60));
}

#[test]
fn a_seed_replays_the_same_run() {
    for seed in 0..10 {
        assert_eq!(run(Plan::of(seed), None), run(Plan::of(seed), None), "seed {seed}");
    }
}

/// Some seed has to find a planted bug, by breaking the invariant that says `what`.
fn finds(bug: Bug, what: &str) {
    let found = (0..200).find(|&seed| run(Plan::of(seed), Some(bug)).broken.iter().any(|broken| broken.contains(what)));
    assert!(found.is_some(), "no seed finds {bug:?}");
    println!("seed {found:?} finds {bug:?}");
}

#[test]
fn an_acknowledgement_before_its_consequence_is_found() {
    finds(Bug::AcknowledgesTooEarly, "acknowledged with nothing to follow");
}

#[test]
fn a_publish_that_cannot_be_repeated_is_found() {
    finds(Bug::NewIds, "ended 2 times, 0 outcomes may be lost");
}

#[test]
fn attempts_that_are_not_counted_are_found() {
    finds(Bug::CountsNothing, "though its outcome was known");
}

#[test]
fn a_call_before_its_time_is_found() {
    finds(Bug::WaitsForNothing, "is called too early");
}

#[test]
fn a_lease_that_is_not_prolonged_is_found() {
    finds(Bug::NoHeartbeats, "is called twice at once");
}

#[test]
fn a_successor_that_is_not_looked_for_is_found() {
    finds(Bug::LooksForNothing, "though its outcome was known");
}

#[test]
fn a_message_that_is_never_let_go_is_found() {
    finds(Bug::NeverAcknowledges, "it comes to no end");
}

#[test]
fn a_retry_that_is_not_parked_is_found() {
    finds(Bug::LosesClones, "ended nowhere");
}
