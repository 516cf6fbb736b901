//! Every point at which something can strike a worker, for each way that a message can go. Between two steps
//! a worker does nothing that anybody sees, so that these are all the points there are: a crash at whatever
//! await is one of them.

use std::time::Duration;

use crate::{
    parallel::{Sum, each},
    plan::{Event, Plan},
    planted::Bug,
    strike::{Blow, Strike},
    ways::{self, Way},
    world::{Report, run, tell},
};

/// Steps that ask the broker for nothing, so that no request of theirs can be lost.
const NO_REQUESTS: [&str; 6] = ["take", "close", "call", "answer", "post", "posted"];

/// Whether the blow means anything at this step.
fn applies(blow: Blow, step: &str) -> bool {
    !matches!(blow, Blow::Lost | Blow::Unanswered | Blow::Late) || !NO_REQUESTS.contains(&step)
}

/// The steps of a worker that is struck by these, up to the end.
fn steps(way: &Way, strikes: &[Strike], worker: usize) -> Vec<&'static str> {
    run(struck(way, strikes), None).steps.remove(&worker).unwrap_or_default()
}

fn struck(way: &Way, strikes: &[Strike]) -> Plan {
    Plan { strikes: strikes.to_vec(), ..way.plan.clone() }
}

/// Steps that a janitor takes again and again, and mostly for nothing.
const LOOKS: [&str; 2] = ["look at the stream", "look for a holder"];

/// The steps that a blow may strike: of a janitor's looks the first and the last of each kind.
fn struckable(steps: &[&'static str]) -> Vec<(usize, &'static str)> {
    let is_one_of_many = |at: usize, step| {
        LOOKS.contains(&step) && steps[..at].contains(&step) && steps[at + 1..].contains(&step)
    };
    steps.iter().copied().enumerate().filter(|(at, step)| !is_one_of_many(*at, *step)).collect()
}

/// All blows at all the steps that `worker` takes after `before`.
fn further(way: &Way, before: &[Strike], worker: usize, blows: &[Blow]) -> Vec<Vec<Strike>> {
    let steps = steps(way, before, worker);
    let blows_at =
        |(at, step)| blows.iter().filter(move |blow| applies(**blow, step)).map(move |blow| (at, *blow));
    struckable(&steps)
        .into_iter()
        .flat_map(blows_at)
        .map(|(at, blow)| [before, &[Strike { worker, at, blow }]].concat())
        .collect()
}

fn name(way: &Way, strikes: &[Strike]) -> String {
    format!("{}:{}", way.name, strikes.iter().map(Strike::to_string).collect::<Vec<_>>().join("+"))
}

/// Lives through all of these; each has to have struck.
fn check(test: &str, points: Vec<(Way, Vec<Strike>)>) -> Sum {
    let asked = std::env::var("SIM_STRIKE").ok();
    let points: Vec<_> = points
        .into_iter()
        .filter(|(way, strikes)| asked.as_ref().is_none_or(|asked| *asked == name(way, strikes)))
        .collect();
    let sum = each(&points, |(way, strikes), sum| {
        let Report { broken, tally, steps, .. } = run(struck(way, strikes), None);
        let dealt = strikes
            .iter()
            .all(|strike| steps.get(&strike.worker).is_some_and(|steps| steps.len() > strike.at));
        let name = name(way, strikes);
        if !broken.is_empty() || !dealt {
            let what = if dealt { broken.join("; ") } else { "the blow was never dealt".to_owned() };
            sum.failed
                .push(format!("{what}\n  SIM_STRIKE={name} cargo test --test sim {test} -- --nocapture"));
        }
        tally.into_iter().for_each(|(what, number)| sum.add(what, number));
    });
    sum.report(test, "points");
    if asked.is_some() {
        for (way, strikes) in &points {
            println!("{}", tell(struck(way, strikes), None).trace.join("\n"));
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
fn a_blow_at_any_step_of_any_way_breaks_nothing() {
    let mut points = Vec::new();
    let (mut all, mut least) = (0, 0);
    for way in ways::all() {
        let steps = steps(&way, &[], 0);
        all += struckable(&steps)
            .iter()
            .map(|(_, step)| Blow::ALL.iter().filter(|blow| applies(**blow, step)).count())
            .sum::<usize>();
        // Each call and POST has two steps, and to each belong an ask, a delivery and an acknowledgement.
        let (calls, posts, letters) = way.counts;
        least += 2 * (calls + posts) + letters + 3;
        points.extend(further(&way, &[], 0, &Blow::ALL).into_iter().map(|strikes| (way.clone(), strikes)));
    }
    let sum = check("a_blow_at_any_step", points);
    if std::env::var("SIM_STRIKE").is_err() {
        assert_eq!(sum.runs, all);
        assert!(sum.runs > least * Blow::ALL.len() / 2, "{} points, and {least} steps at least", sum.runs);
    }
}

#[test]
fn a_second_crash_at_any_step_after_a_first_at_any_step_breaks_nothing() {
    let mut points = Vec::new();
    for way in ways::all()
        .into_iter()
        .filter(|way| ["success", "retry", "refusal", "callback-of-a-refusal"].contains(&way.name))
    {
        let firsts = further(&way, &[], 0, &Blow::CRASHES);
        let pairs = firsts.iter().flat_map(|first| further(&way, first, 1, &Blow::CRASHES));
        points.extend(pairs.map(|strikes| (way.clone(), strikes)));
    }
    check("a_second_crash_at_any_step", points);
}

#[test]
fn a_message_that_kills_its_workers_ends_as_interrupted_and_its_bystander_completes() {
    let way = ways::poison();
    let points = (0..6)
        .flat_map(|worker| further(&way, &[], worker, &Blow::CRASHES))
        .map(|strikes| (way.clone(), strikes));
    check("a_message_that_kills_its_workers", points.collect());
}

#[test]
fn a_successor_that_is_not_looked_for_is_found_by_the_crashes_between_the_letter_and_the_acknowledgement_alone()
 {
    let way = ways::all().into_iter().find(|way| way.name == "refusal").unwrap();
    let bug = Some(Bug::LooksForNothing);
    let steps = &run(way.plan.clone(), bug).steps[&0];
    let at = |what: &str| steps.iter().position(|step| *step == what).unwrap();
    let points = (0..steps.len()).flat_map(|at| Blow::CRASHES.map(|blow| Strike { worker: 0, at, blow }));
    let finds = |strike: &Strike| {
        let broken = run(struck(&way, &[*strike]), bug).broken;
        broken.iter().any(|what| what.contains("though its outcome was known"))
    };
    let found: Vec<Strike> = points.filter(finds).collect();
    let after = Strike { worker: 0, at: at("publish"), blow: Blow::CrashAfter };
    let before = Strike { worker: 0, at: at("acknowledge"), blow: Blow::CrashBefore };
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
    let plan = struck(&way, &[Strike { worker: 0, at, blow: Blow::CrashAfter }]);
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
    let plan = struck(&way, &[Strike { worker: 0, at: place(way.plan.clone()), blow: Blow::CrashAfter }]);
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
