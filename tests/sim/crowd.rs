//! Levels that hold more than their consumers may at once.

use std::time::Duration;

use crate::{
    hostile::Headers,
    mutant::Bug,
    plan::{Answer, Message, Plan, Step},
    ways,
    world::run,
};

/// Retries with short waits, parked in a level behind more of those with long ones than it has places for.
fn crowd(level_room: u64, level_held: u64) -> Plan {
    let retried = |at: u64, wait| {
        let step = |answer| Step { answer, takes: Duration::from_millis(10) };
        let script = vec![step(Answer::PushedBack(503, wait)), step(Answer::Status(200))];
        Message {
            at: Duration::from_millis(at),
            queue: 0,
            script,
            callback: None,
            headers: Headers::None,
            room: None,
        }
    };
    let mut plan = ways::all().into_iter().find(|way| way.name == "retry-by-levels").unwrap().plan;
    plan.messages = (0..9).map(|n| retried(100 * n, if n < 6 { 31 } else { 17 })).collect();
    Plan { level_room, level_held, max_inflight: 4, max_retry_after: Duration::from_secs(40), ..plan }
}

#[test]
fn a_crowded_level_makes_nobody_late() {
    for level_room in 1..=9 {
        // Movers rest now and then in a level that holds many.
        for level_held in [0, 100_000] {
            assert_eq!(
                run(crowd(level_room, level_held), None).broken,
                [""; 0],
                "{level_room} places, {level_held} held"
            );
        }
    }
}

#[test]
fn a_level_that_gets_no_room_is_found() {
    let broken = run(crowd(2, 0), Some(Bug::MakesNoRoom)).broken;
    assert!(broken.iter().any(|what| what.contains("leaves its level")), "{broken:?}");
}
