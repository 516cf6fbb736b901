//! A failpoint at every step of a worker, for each way that a message can go. Between two steps a worker does
//! nothing that anybody sees, so these are all the points there are: a crash at any await is one of them.

use std::time::Duration;

use crate::{
    failpoint::{Failpoint, Fault},
    mutant::Bug,
    parallel::{Sum, each},
    plan::{Event, Plan},
    ways::{self, Way},
    world::{Report, run, tell},
};

/// Steps that ask the broker for nothing, so that no request of theirs can be lost.
const NO_REQUESTS: [&str; 6] = ["take", "close", "call", "answer", "post", "posted"];

/// Whether the fault means anything at this step.
fn applies(fault: Fault, step: &str) -> bool {
    !matches!(fault, Fault::Lost | Fault::Unanswered | Fault::Late) || !NO_REQUESTS.contains(&step)
}

/// The steps of a worker with these failpoints, up to the end.
fn steps(way: &Way, failpoints: &[Failpoint], worker: usize) -> Vec<&'static str> {
    run(with(way, failpoints), None).steps.remove(&worker).unwrap_or_default()
}

fn with(way: &Way, failpoints: &[Failpoint]) -> Plan {
    Plan { failpoints: failpoints.to_vec(), ..way.plan.clone() }
}

/// Steps that a janitor takes again and again, and mostly for nothing.
const LOOKS: [&str; 2] = ["look at the stream", "look for a scheduled message"];

/// The steps at which a failpoint makes sense: of a janitor's looks the first and the last of each kind.
fn failing_steps(steps: &[&'static str]) -> Vec<(usize, &'static str)> {
    let is_one_of_many = |at: usize, step| {
        LOOKS.contains(&step) && steps[..at].contains(&step) && steps[at + 1..].contains(&step)
    };
    steps.iter().copied().enumerate().filter(|(at, step)| !is_one_of_many(*at, *step)).collect()
}

/// All faults at all the steps that `worker` takes after `before`.
fn further(way: &Way, before: &[Failpoint], worker: usize, faults: &[Fault]) -> Vec<Vec<Failpoint>> {
    let steps = steps(way, before, worker);
    let faults_at =
        |(at, step)| faults.iter().filter(move |fault| applies(**fault, step)).map(move |fault| (at, *fault));
    failing_steps(&steps)
        .into_iter()
        .flat_map(faults_at)
        .map(|(at, fault)| [before, &[Failpoint { worker, at, fault }]].concat())
        .collect()
}

fn name(way: &Way, failpoints: &[Failpoint]) -> String {
    format!("{}:{}", way.name, failpoints.iter().map(Failpoint::to_string).collect::<Vec<_>>().join("+"))
}

/// Runs all of these; each failpoint has to have been reached.
fn check(test: &str, points: Vec<(Way, Vec<Failpoint>)>) -> Sum {
    let asked = std::env::var("SIM_FAILPOINT").ok();
    let points: Vec<_> = points
        .into_iter()
        .filter(|(way, failpoints)| asked.as_ref().is_none_or(|asked| *asked == name(way, failpoints)))
        .collect();
    let sum = each(&points, |(way, failpoints), sum| {
        let Report { broken, tally, steps, .. } = run(with(way, failpoints), None);
        let reached = failpoints
            .iter()
            .all(|failpoint| steps.get(&failpoint.worker).is_some_and(|steps| steps.len() > failpoint.at));
        let name = name(way, failpoints);
        if !broken.is_empty() || !reached {
            let what = if reached { broken.join("; ") } else { "the failpoint was never reached".to_owned() };
            sum.failed
                .push(format!("{what}\n  SIM_FAILPOINT={name} cargo test --test sim {test} -- --nocapture"));
        }
        tally.into_iter().for_each(|(what, number)| sum.add(what, number));
    });
    sum.report(test, "points");
    if asked.is_some() {
        for (way, failpoints) in &points {
            println!("{}", tell(with(way, failpoints), None).trace.join("\n"));
        }
    }
    assert!(
        sum.failed.is_empty(),
        "{} of {} points break an invariant:\n{}",
        sum.failed.len(),
        sum.runs,
        sum.failed.join("\n")
    );
    sum
}

#[test]
fn each_way_is_what_its_name_says() {
    for way in ways::all().into_iter().chain([ways::poison()]) {
        let Report { broken, tally, trace, .. } = tell(way.plan.clone(), None);
        assert!(broken.is_empty(), "{}: {broken:?}\n{}", way.name, trace.join("\n"));
        let figure = |what| tally.get(what).copied().unwrap_or(0);
        let counts = (figure("calls"), figure("posts"), figure("dead letters") + figure("dead callbacks"));
        assert_eq!(counts, way.counts, "{}\n{}", way.name, trace.join("\n"));
    }
}

#[test]
fn a_fault_at_any_step_of_any_way_breaks_nothing() {
    let mut points = Vec::new();
    let (mut all, mut least) = (0, 0);
    for way in ways::all() {
        let steps = steps(&way, &[], 0);
        all += failing_steps(&steps)
            .iter()
            .map(|(_, step)| Fault::ALL.iter().filter(|fault| applies(**fault, step)).count())
            .sum::<usize>();
        // Each call and POST has two steps, and to each belong an ask, a delivery and an acknowledgement.
        let (calls, posts, letters) = way.counts;
        least += 2 * (calls + posts) + letters + 3;
        points.extend(
            further(&way, &[], 0, &Fault::ALL).into_iter().map(|failpoints| (way.clone(), failpoints)),
        );
    }
    let sum = check("a_fault_at_any_step", points);
    if std::env::var("SIM_FAILPOINT").is_err() {
        assert_eq!(sum.runs, all);
        assert!(sum.runs > least * Fault::ALL.len() / 2, "{} points, and {least} steps at least", sum.runs);
    }
}

#[test]
fn a_second_crash_at_any_step_after_a_first_at_any_step_breaks_nothing() {
    let mut points = Vec::new();
    for way in ways::all()
        .into_iter()
        .filter(|way| ["success", "retry", "refusal", "callback-of-a-refusal"].contains(&way.name))
    {
        let firsts = further(&way, &[], 0, &Fault::CRASHES);
        let pairs = firsts.iter().flat_map(|first| further(&way, first, 1, &Fault::CRASHES));
        points.extend(pairs.map(|failpoints| (way.clone(), failpoints)));
    }
    check("a_second_crash_at_any_step", points);
}

#[test]
fn a_message_that_kills_its_workers_ends_as_interrupted_and_its_bystander_completes() {
    let way = ways::poison();
    let points = (0..6)
        .flat_map(|worker| further(&way, &[], worker, &Fault::CRASHES))
        .map(|failpoints| (way.clone(), failpoints));
    check("a_message_that_kills_its_workers", points.collect());
}

#[test]
fn a_successor_that_is_not_looked_for_is_found_by_crashes_between_letter_and_acknowledgement_alone() {
    let way = ways::all().into_iter().find(|way| way.name == "refusal").unwrap();
    let bug = Some(Bug::LooksForNothing);
    let steps = &run(way.plan.clone(), bug).steps[&0];
    let at = |what: &str| steps.iter().position(|step| *step == what).unwrap();
    let points =
        (0..steps.len()).flat_map(|at| Fault::CRASHES.map(|fault| Failpoint { worker: 0, at, fault }));
    let finds = |failpoint: &Failpoint| {
        let broken = run(with(&way, &[*failpoint]), bug).broken;
        broken.iter().any(|what| what.contains("though its outcome was known"))
    };
    let found: Vec<Failpoint> = points.filter(finds).collect();
    let after = Failpoint { worker: 0, at: at("publish"), fault: Fault::CrashAfter };
    let before = Failpoint { worker: 0, at: at("acknowledge"), fault: Fault::CrashBefore };
    assert_eq!(found, [after, before], "{steps:?}");
}

#[test]
fn a_retry_that_was_moved_before_the_clock_was_set_back_is_not_moved_again() {
    let mut way = ways::all().into_iter().find(|way| way.name == "retry-by-levels").unwrap();
    let at = run(way.plan.clone(), None).steps[&0].iter().position(|step| *step == "place").unwrap();
    // The promoter that moves it has not heard of that yet, and dies; the next one has.
    // Just after a janitor asked for the time.
    way.plan.events =
        vec![(Duration::from_millis(1_200), Event::Clock { forward: false, by: Duration::from_secs(700) })];
    let plan = with(&way, &[Failpoint { worker: 0, at, fault: Fault::CrashAfter }]);
    assert_eq!(run(plan.clone(), None).broken, [""; 0]);
    let broken = run(plan.clone(), Some(Bug::ForgetsMoves)).broken;
    assert!(
        broken.iter().any(|what| what.contains("though its outcome was known")),
        "{broken:?} {}",
        tell(plan, None).trace.join("\n")
    );
}

#[test]
fn a_retry_that_a_janitor_brought_and_did_not_delete_is_not_moved_again_when_there_are_schedules() {
    let mut way = ways::all().into_iter().find(|way| way.name == "downgrade").unwrap();
    let place = |plan: Plan| run(plan, None).steps[&0].iter().position(|step| *step == "place").unwrap();
    way.plan.events =
        vec![(Duration::from_millis(300), Event::Downgrade { lasts: Duration::from_millis(10_200) })];
    let plan = with(&way, &[Failpoint { worker: 0, at: place(way.plan.clone()), fault: Fault::CrashAfter }]);
    let report = tell(plan.clone(), None);
    assert_eq!(
        (report.broken, report.tally["moved by a janitor"]),
        (Vec::new(), 1),
        "{}",
        report.trace.join("\n")
    );
    let broken = run(plan, Some(Bug::ForgetsMoves)).broken;
    assert!(broken.iter().any(|what| what.contains("though its outcome was known")), "{broken:?}");
}
