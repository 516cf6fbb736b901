//! Many messages at once: workers ask for more while others are on their way, and the broker goes meanwhile.

use std::time::Duration;

use crate::{
    plan::{Event, FaultRates, Message, Plan, Step},
    seeds::check,
};

const SEEDS: u64 = 100;
const MESSAGES: usize = 120;
/// All takes longer here than it does in life.
const AHEAD: Duration = Duration::from_millis(20);

/// The seed's plan with many times its messages, all in the first milliseconds and called quickly, and a
/// broker that goes twice while they are called.
fn rush(seed: u64) -> Plan {
    let plan = Plan::of(seed);
    let at = |n: usize| Duration::from_micros(n as u64 * 100);
    let messages = plan.messages.iter().cycle().cloned().enumerate().take(MESSAGES);
    let quick = |step: Step| Step { takes: step.takes.min(Duration::from_millis(1)), ..step };
    let script = |message: &Message| message.script.iter().copied().map(quick).collect();
    let messages =
        messages.map(|(n, message)| Message { at: at(n), queue: 0, script: script(&message), ..message });
    let messages = messages.collect();
    let outage = |at: u64, killed| {
        (Duration::from_millis(at), Event::Outage { lasts: Duration::from_millis(500), killed })
    };
    // One alone has most to do, and does it most quickly as long as only the broker is to go.
    let steady = seed.is_multiple_of(4);
    let first = seed * 7 % 50 + if steady { 250 } else { 3 };
    let events =
        vec![outage(first, seed.is_multiple_of(2)), outage(first + 520 + seed % 60, seed.is_multiple_of(3))];
    let workers = if seed.is_multiple_of(2) { 1 } else { plan.workers };
    let fault_rates = if steady { FaultRates::default() } else { plan.fault_rates };
    Plan { queues: 1, workers, max_inflight: 8, ahead: AHEAD, fault_rates, messages, events, ..plan }
}

#[test]
fn requests_that_overlap_lose_and_repeat_nothing_when_the_broker_goes() {
    let sum = check("requests_that_overlap", rush, SEEDS);
    if sum.runs as u64 >= SEEDS {
        for what in ["overlapping requests", "breaks with several open", "asked for ahead"] {
            assert!(sum.tally.get(what).is_some_and(|number| *number > 0), "no {what}");
        }
    }
}
