//! Mutants are found, each by the invariant that is there for it, and within a fraction of the
//! seeds that always run.

use crate::{
    mutant::Bug::{self, *},
    plan::Plan,
    ways,
    world::run,
};

/// Some of the first seeds finds it, by breaking the invariant that says `what`.
fn finds(bug: Bug, what: &str) {
    let found = (0..500)
        .find(|&seed| run(Plan::of(seed), Some(bug)).broken.iter().any(|broken| broken.contains(what)));
    let seed = found.unwrap_or_else(|| panic!("no seed finds {bug:?} by \"{what}\""));
    assert!(run(Plan::of(seed), None).broken.is_empty(), "seed {seed} fails without {bug:?}");
    println!("seed {seed} finds {bug:?}: {what}");
}

/// A test a bug, named by what it says of the bug.
macro_rules! mutants {
    ($($test:ident: $bug:ident, $what:literal;)*) => {$(
        #[test]
        fn $test() {
            finds($bug, $what);
        }
    )*};
}

mutants! {
    an_acknowledgement_before_its_consequence_is_found: AcknowledgesTooEarly, "acknowledged with nothing to \
        follow";
    an_acknowledgement_of_another_message_is_found: AcknowledgesAnother, "acknowledged with nothing to \
        follow";
    a_publish_that_cannot_be_repeated_is_found: NewIds, "ended 2 times, 0 outcomes may be lost";
    attempts_that_are_not_counted_are_found: CountsNothing, "though its outcome was known";
    an_attempt_too_many_is_found: OneAttemptTooMany, "is called as retry";
    a_call_too_many_at_once_is_found: OnePermitTooMany, "calls at once";
    a_permit_that_is_not_given_back_is_found: LeaksPermit, "permits only";
    a_call_before_its_time_is_found: WaitsForNothing, "is called too early";
    a_wait_beyond_the_cap_is_found: WaitsTooLong, "waits for";
    a_retry_after_beyond_its_cap_is_found: HeedsTooLong, "waits for";
    a_wait_that_chance_makes_too_short_is_found: JittersTooFar, "is called too early";
    a_date_that_another_clock_is_asked_about_is_found: AheadOfWallTime, "is called too early";
    a_lease_that_is_not_prolonged_is_found: NoHeartbeats, "is called twice at once";
    a_successor_that_is_not_looked_for_is_found: LooksForNothing, "though its outcome was known";
    a_worker_that_never_doubts_is_found: NeverDoubts, "though its outcome was known";
    a_worker_that_misses_the_end_of_a_broker_is_found: KnowsOneBroker, "though its outcome was known";
    a_worker_that_overlooks_what_is_newer_is_found: SeesNothingNewer, "though its outcome was known";
    a_message_that_is_never_let_go_is_found: NeverAcknowledges, "it comes to no end";
    a_retry_that_is_not_parked_is_found: LosesClones, "ended nowhere";
    a_delivery_that_is_dropped_when_the_pulling_ends_is_found: DropsAtDrain, "deliveries behind";
    a_cut_call_that_is_not_handed_back_is_found: DropsAtCut, "acknowledged with nothing to follow";
    a_level_that_moves_nothing_is_found: MovesNothing, "left its level and came nowhere";
    a_level_that_is_moved_too_early_is_found: MovesTooEarly, "is called too early";
    a_janitor_that_deletes_before_it_stores_is_found: DeletesFirst, "left its schedule and came nowhere";
    a_janitor_that_moves_what_is_not_overdue_is_found: FiresTooEarly, "is called too early";
    a_janitor_that_moves_what_another_moved_is_found: FiresBlindly, "is called twice at once";
    a_janitor_that_moves_nothing_is_found: FiresNothing, "it comes to no end";
    a_drop_that_is_not_counted_is_found: DropsUncounted, "were dropped and";
    a_message_that_is_dropped_for_its_size_is_found: DropsTooLarge, "acknowledged with nothing to follow";
    a_message_that_is_refused_though_it_fits_is_found: ThinksSmall, "is refused though what follows would \
        fit";
    a_stranger_who_is_believed_is_found: BelievesStrangers, "ended nowhere";
    a_worker_that_knows_no_pause_is_found: KnowsNoPause, "though its function is paused";
    a_header_of_the_brokers_that_goes_along_is_found: CopiesBrokers, "carries a header of the broker's";
}

/// No seed cancels a call; the ways do.
#[test]
fn a_call_that_was_cancelled_and_runs_is_found() {
    let way = ways::all().into_iter().find(|way| way.name == "cancelled-while-it-waits").unwrap();
    let broken = run(way.plan, Some(HearsNothing)).broken;
    assert!(broken.iter().any(|broken| broken.contains("is called after it was cancelled")), "{broken:?}");
}
