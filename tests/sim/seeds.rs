//! Seeds: each is a plan with a fault schedule of its own.

use std::{collections::BTreeMap, panic::catch_unwind};

use queue_worker::retry::backoff::Jitter;

use crate::{
    parallel::{Sum, each},
    plan::{Event, Input, Plan},
    world::{Report, run, tell},
};

/// How many seeds with faults run unless somebody asks for more.
const USUAL: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

/// Runs the seed that is asked for, else the first so many; the test's name says how to run one again.
pub fn check(test: &str, plan: fn(u64) -> Plan, usual: u64) -> Sum {
    let alone = number("SIM_SEED");
    let seeds: Vec<u64> =
        alone.map_or_else(|| (0..number("SIM_SEEDS").unwrap_or(usual)).collect(), |seed| vec![seed]);
    let sum = each(&seeds, |&seed, sum| {
        let plan = plan(seed);
        for (_, event) in &plan.events {
            sum.add(name(event), 1);
        }
        sum.add("seeds with jitter", usize::from(plan.jitter != Jitter::None));
        sum.add("seeds with dates", usize::from(plan.dates));
        sum.add("seeds of messages as they are", usize::from(plan.input == Input::Http));
        sum.add("seeds of events", usize::from(plan.input == Input::CloudEvents));
        let again = format!("SIM_SEED={seed} cargo test --test sim {test} -- --nocapture");
        let Ok(report) = catch_unwind(|| run(plan, None)) else {
            return sum.failed.push(format!("a panic\n  {again}"));
        };
        if !report.broken.is_empty() {
            sum.failed.push(format!("{}\n  {again}", report.broken.join("; ")));
        }
        report.tally.into_iter().for_each(|(what, number)| sum.add(what, number));
    });
    sum.report(test, "seeds");
    if let Some(seed) = alone {
        println!("{:#?}\n{}", plan(seed), tell(plan(seed), None).trace.join("\n"));
    }
    let failed = &sum.failed;
    assert!(
        failed.is_empty(),
        "{} of {} seeds break an invariant:\n{}",
        failed.len(),
        sum.runs,
        failed.join("\n")
    );
    sum
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Crash { .. } => "worker crashes",
        Event::Drain { .. } => "drains",
        Event::Outage { killed: true, .. } => "broker kills",
        Event::Outage { .. } => "outages",
        Event::GatewayAway { .. } => "gateway deaths",
        Event::ErrorBackoff { .. } => "pauses",
        Event::Clock { .. } => "clock steps",
        Event::Cancel { .. } => "cancelled calls",
        Event::Downgrade { .. } => "downgrades",
        Event::Pause => "pauses by an operator",
        Event::Resume => "resumes by an operator",
    }
}

#[test]
fn every_message_comes_to_one_end_whatever_the_faults() {
    let sum = check("every_message_comes_to_one_end", Plan::of, USUAL);
    if sum.runs as u64 >= USUAL {
        let all = [
            "worker crashes",
            "drains",
            "broker kills",
            "outages",
            "gateway deaths",
            "pauses",
            "clock steps",
            "downgrades",
            "pauses by an operator",
            "interrupted",
            "given out twice",
            "dropped as asked",
            "moved by a janitor",
            "refused for their size",
            "compressed",
            "damaged",
            "seeds with jitter",
            "seeds with dates",
            "seeds of messages as they are",
            "seeds of events",
        ];
        let never: Vec<_> =
            all.into_iter().filter(|what| sum.tally.get(what).is_none_or(|number| *number == 0)).collect();
        assert!(never.is_empty(), "{never:?} never happened");
    }
}

#[test]
fn without_faults_each_script_is_played_once_and_exactly() {
    check("without_faults", Plan::calm, 300);
}

#[test]
fn a_seed_replays_the_same_run() {
    // The waits that are left to chance are the seed's as well.
    let with_jitter = (10..).filter(|&seed| Plan::of(seed).jitter != Jitter::None).take(10);
    for seed in (0..10).chain(with_jitter) {
        let stories: [Report; 2] = [(); 2].map(|()| tell(Plan::of(seed), None));
        assert_eq!(stories[0], stories[1], "seed {seed}");
        assert_ne!(stories[0].steps, BTreeMap::new());
    }
}
