//! What three of 40,000 seeds once broke, each by itself. The books were wrong each time: a broker that is
//! killed forgets, and then there are things that no worker can know. What the books ask for now is as much
//! as anybody can.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use queue_worker::message::{names::Names, record::Record};
use tokio::time::Instant;

use crate::{
    consumer::Consumer,
    failpoint::{Failpoint, Fault},
    plan::{Answer, Event, Plan, Step},
    stored::Stored,
    ways,
    world::{Report, run, tell},
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn way(name: &str) -> Plan {
    ways::all().into_iter().find(|way| way.name == name).unwrap().plan
}

/// Nothing is broken; returns how often something happened, and the story.
fn holds(plan: Plan) -> (impl Fn(&str) -> usize, String) {
    let Report { broken, tally, trace, .. } = tell(plan, None);
    let story = trace.join("\n");
    assert!(broken.is_empty(), "{broken:?}\n{story}");
    (move |what: &str| tally.get(what).copied().unwrap_or(0), story)
}

/// Seed 28850: the broker is killed while a call runs, and gives the message to a second worker, which
/// completes it. Then the first one, whose lease lasts, parks the retry of its failed attempt: the window of
/// two holders. Whoever gets that clone finds the dead letter of the callback and lets it go. The books
/// missed a success of a later attempt.
#[test]
fn seed_28850_a_clone_that_was_parked_beside_a_success_is_let_go() {
    let mut plan = way("callback-refused");
    plan.workers = 2;
    let step = |answer, takes| Step { answer, takes: seconds(takes) };
    plan.messages[0].script = vec![step(Answer::Status(500), 1.5), step(Answer::Status(200), 0.001)];
    plan.events = vec![(seconds(0.05), Event::Outage { lasts: seconds(1.0), killed: true })];
    let (figure, story) = holds(plan);
    assert_eq!((figure("calls"), figure("given out twice"), figure("dead callbacks")), (2, 1, 1), "{story}");
    assert!(story.contains("acknowledged m0 generation 1"), "{story}");
}

/// Seed 38408: a worker dies between storing the retry and letting go of the message. The retry is woken by
/// its schedule, and so leaves its id behind; a kill of the broker takes that. The message comes again, and
/// is looked for while the retry is stored still, but the question is lost. Until it is asked again the retry
/// has come to its end: nothing tells of it any more, and the attempt is made again. The books asked at the
/// delivery, not at the question.
#[test]
fn seed_38408_what_ended_after_the_broker_forgot_its_id_cannot_be_found() {
    let mut plan = way("retry");
    plan.max_inflight = 2;
    plan.messages[0].script[1].takes = seconds(4.0);
    plan.events = vec![(seconds(2.5), Event::Outage { lasts: seconds(0.1), killed: true })];
    fails_at(&mut plan, 0, "publish", Fault::CrashAfter);
    fails_at(&mut plan, 1, "look for the last", Fault::Lost);
    let (figure, story) = holds(plan);
    assert_eq!(
        (figure("calls"), figure("outcomes that may be lost"), figure("given out twice")),
        (3, 1, 0),
        "{story}"
    );
    assert!(story.contains("nothing is known any more of what followed from m0"), "{story}");
}

/// Seed 33714: an acknowledgement is lost, and what followed from the message comes to its end. The message
/// comes again, but that delivery is lost; then a kill of the broker takes the id of what followed, and the
/// message comes once more. The books took that for the first time, because the delivery before had not
/// arrived.
#[test]
fn seed_33714_what_reached_a_worker_comes_again_though_a_delivery_in_between_was_lost() {
    let names = Names::new("q", "q");
    let consumer = &mut Consumer::of(0, &names, seconds(5.0), 1)[0];
    let record = Record {
        stream: "q".into(),
        subject: "q".into(),
        id: String::new(),
        headers: HeaderMap::new(),
        payload: Bytes::new(),
    };
    let messages = BTreeMap::from([(1, Stored { record, stored: SystemTime::UNIX_EPOCH, fires: None })]);
    let began = Instant::now();
    for (at, arrives, again) in [(0.0, true, false), (6.0, false, true), (12.0, true, true)] {
        let taken = consumer.take(&messages, 0, arrives, Duration::ZERO, began + seconds(at)).unwrap();
        assert_eq!(taken.again, again, "after {at} s");
    }
}

/// Strikes a worker at the last step of this name that it takes.
fn fails_at(plan: &mut Plan, worker: usize, step: &str, fault: Fault) {
    let steps = &run(plan.clone(), None).steps[&worker];
    let at = steps.iter().rposition(|other| *other == step).unwrap();
    plan.failpoints.push(Failpoint { worker, at, fault });
}
