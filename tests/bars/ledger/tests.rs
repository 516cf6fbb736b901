//! The books are read right: what is planted in them is found, and nothing else is.

use super::*;

/// A ledger with one message whose calls are `(worker, retry, from, to, came)` in seconds, and one fault.
fn judged(
    fate: Fate,
    calls: &[(usize, u32, u64, u64, Came)],
    causes: &[&str],
    fault: Option<(u64, u64, Option<usize>)>,
) -> Verdict {
    let start = Instant::now();
    let at = |second| start + Duration::from_secs(second);
    let mut ledger = Ledger::default();
    ledger.announce(7, fate, false);
    ledger.accepted(7);
    for (worker, retry, from, to, came) in calls {
        ledger.called(7, Entry { worker: *worker, retry: *retry, from: at(*from), to: at(*to), came: *came });
    }
    causes.iter().for_each(|cause| ledger.died(7, cause));
    if let Some((from, to, worker)) = fault {
        ledger.fault(Fault { what: "fault", from: at(from), to: at(to), worker });
    }
    ledger.verdict(0)
}

const PLAIN: (usize, u32, u64, u64, Came) = (0, 0, 10, 11, Came::Success);

#[test]
fn what_ends_as_it_should_is_nobodys_complaint() {
    let failed = (0, 0, 10, 11, Came::Failure);
    for verdict in [
        judged(Fate::After(0), &[PLAIN], &[], None),
        judged(Fate::After(1), &[failed, (1, 1, 12, 13, Came::Success)], &[], None),
        judged(Fate::Refused, &[failed], &["refused"], None),
    ] {
        assert_eq!((verdict.losses(), verdict.surprises(), verdict.repeated), (vec![], vec![], 0));
    }
}

#[test]
fn a_planted_loss_is_found() {
    let verdict = judged(Fate::After(1), &[(0, 0, 10, 11, Came::Failure)], &[], Some((10, 10, None)));
    assert_eq!(verdict.lost, [7]);
    assert_eq!(judged(Fate::After(0), &[], &[], None).lost, [7]);
    assert_eq!(judged(Fate::After(0), &[(0, 0, 10, 11, Came::Nothing)], &[], None).lost, [7]);
}

#[test]
fn what_nobody_acknowledged_is_not_lost() {
    let mut ledger = Ledger::default();
    ledger.announce(1, Fate::After(0), false);
    let verdict = ledger.verdict(0);
    assert_eq!((verdict.lost.len(), verdict.accepted, verdict.doubtful), (0, 0, 1));
}

#[test]
fn a_planted_repeat_is_excused_only_by_a_fault_that_met_the_call_before() {
    let again = (1, 0, 20, 21, Came::Success);
    for (fault, excused) in [
        (None, false),
        (Some((10, 10, None)), true),
        (Some((10, 10, Some(0))), true),
        (Some((10, 10, Some(1))), false),
        (Some((12, 12, None)), true),
        (Some((15, 15, Some(0))), false),
        (Some((15, 15, None)), false),
        (Some((0, 2, None)), true),
        (Some((5, 9, Some(0))), false),
    ] {
        let verdict = judged(Fate::After(0), &[PLAIN, again], &[], fault);
        assert_eq!((verdict.repeated, verdict.unexplained.is_empty()), (1, excused), "{fault:?}");
        assert!(!excused || verdict.exposed > 0, "{fault:?}");
    }
}

#[test]
fn only_what_runs_while_a_fault_lasts_is_in_flight() {
    for (fault, in_flight) in
        [((10, 10, None), 1), ((0, 30, Some(0)), 1), ((10, 10, Some(1)), 0), ((12, 12, None), 0)]
    {
        assert_eq!(judged(Fate::After(0), &[PLAIN], &[], Some(fault)).in_flight, in_flight, "{fault:?}");
    }
}

#[test]
fn tries_at_once_are_in_flight_until_the_last_of_them_is_stored() {
    let tries = [(0, 0, 10, 20, Came::Failure), (0, 1, 20, 30, Came::Failure), (1, 0, 40, 41, Came::Success)];
    let verdict = judged(Fate::After(0), &tries, &[], Some((29, 29, Some(0))));
    assert_eq!((verdict.repeated, verdict.surprises()), (1, vec![]));
    let verdict = judged(Fate::After(0), &tries, &[], Some((39, 39, Some(0))));
    assert_eq!((verdict.unexplained, verdict.misordered), (vec![7], vec![7]));
}

#[test]
fn a_retry_may_come_back_twice_where_the_broker_was_killed_while_it_was_parked() {
    let calls = [(0, 0, 10, 11, Came::Failure), (0, 1, 50, 51, Came::Success), (1, 1, 60, 61, Came::Success)];
    for (fault, excused) in
        [((30, 30, None), true), ((30, 30, Some(0)), false), ((5, 5, None), false), ((55, 55, None), false)]
    {
        assert_eq!(
            judged(Fate::After(1), &calls, &[], Some(fault)).unexplained.is_empty(),
            excused,
            "{fault:?}"
        );
    }
}

#[test]
fn an_attempt_that_another_had_followed_is_misordered_unless_a_fault_met_that() {
    let calls = [(0, 0, 10, 11, Came::Failure), (0, 2, 20, 21, Came::Failure), (0, 1, 30, 31, Came::Success)];
    assert_eq!(judged(Fate::After(1), &calls, &[], Some((40, 41, None))).misordered, [7]);
    assert_eq!(judged(Fate::After(1), &calls, &[], Some((20, 20, Some(0)))).misordered, [0; 0]);
}

#[test]
fn a_planted_orphan_and_ends_that_exclude_each_other_are_found() {
    assert_eq!(Ledger::default().verdict(1).losses(), ["orphans: 1"]);
    assert_eq!(judged(Fate::Refused, &[PLAIN], &["refused"], None).both, [7]);
    assert_eq!(judged(Fate::Refused, &[], &["refused", "refused"], None).dead_twice, [7]);
    assert_eq!(judged(Fate::After(0), &[], &["exhausted"], None).astray, [7]);
    let interrupted = judged(Fate::After(0), &[PLAIN], &["interrupted"], None);
    assert_eq!((interrupted.losses(), interrupted.interrupted), (vec![], 1));
}

#[test]
fn a_callback_that_nobody_got_is_found() {
    let mut ledger = Ledger::default();
    ledger.announce(1, Fate::Refused, true);
    ledger.died(1, "refused");
    assert_eq!(ledger.verdict(0).untold, [1]);
    ledger.told(1);
    assert_eq!(ledger.verdict(0).untold, [0; 0]);
    ledger.told(1);
    assert_eq!(ledger.verdict(0).retold, 1);
}
