//! What is found of a call, piece by piece, and the state that follows. Pure.

use std::time::SystemTime;

use serde::Serialize;

use crate::{
    message::{
        audit::{COMPLETED, Call as Ended, Parked},
        call::Running,
        envelope::{Envelope, redrives as counted},
        letter::{Attempt, Letter, choice::moment},
    },
    retry::judge::Cause,
};

/// Where a call is. Of two that tell of one call, the greater knows better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nothing is known of it.
    Unknown,
    /// It ended with success.
    Done,
    /// It was given up.
    Dead,
    /// Somebody ended it.
    Cancelled,
    /// No worker has begun it.
    Waiting,
    /// It waits for its next attempt.
    Parked,
    /// A worker has it.
    Running,
}

impl State {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Running => "running",
        }
    }
}

/// A call, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    pub call_id: String,
    pub state: State,
    pub function: Option<String>,
    pub queue: Option<String>,
    pub attempts: Vec<Attempt>,
    /// When its next attempt is due.
    #[serde(with = "moment")]
    pub due: Option<SystemTime>,
    /// Why it was given up.
    pub cause: Option<String>,
    /// The worker that has it, or had it at last.
    pub worker: Option<String>,
    #[serde(with = "moment")]
    pub first_seen: Option<SystemTime>,
    /// When it came into this state, where that is known.
    #[serde(with = "moment")]
    pub since: Option<SystemTime>,
    pub original_id: Option<String>,
    /// How often it was sent round again, where that is known.
    pub redrives: Option<u64>,
    /// Its number among the dead letters.
    pub sequence: Option<u64>,
    /// A word for people.
    pub note: Option<String>,
}

impl Call {
    /// One of which nothing is known.
    pub fn unknown(call_id: &str) -> Self {
        Self {
            call_id: call_id.to_owned(),
            state: State::Unknown,
            function: None,
            queue: None,
            attempts: Vec::new(),
            due: None,
            cause: None,
            worker: None,
            first_seen: None,
            since: None,
            original_id: None,
            redrives: None,
            sequence: None,
            note: None,
        }
    }

    /// One that runs.
    pub fn running(call_id: &str, queue: &str, worker: String, running: Running) -> Self {
        let Running { function, original_id, attempts, first_seen, began, redrives } = running;
        Self {
            state: State::Running,
            function: Some(function),
            queue: Some(queue.to_owned()),
            attempts,
            worker: Some(worker),
            first_seen,
            since: began,
            original_id: Some(original_id),
            redrives: Some(counted(redrives.as_deref())),
            ..Self::unknown(call_id)
        }
    }

    /// One whose clone was stored then.
    pub fn parked(
        call_id: &str,
        queue: &str,
        function: Option<String>,
        told: &Envelope,
        stored: SystemTime,
    ) -> Self {
        let mut attempts = Attempt::all(told);
        if let Some(last) = attempts.last_mut().filter(|last| last.at.is_none()) {
            // Its clone was stored when it ended.
            last.at = stored.checked_sub(std::time::Duration::from_millis(last.milliseconds));
        }
        Self {
            state: State::Parked,
            function,
            queue: Some(queue.to_owned()),
            worker: attempts.last().map(|last| last.worker.clone()),
            attempts,
            due: told.due,
            first_seen: Some(told.first_seen),
            since: Some(stored),
            original_id: Some(told.original_id()),
            redrives: Some(counted(told.redrives.as_deref())),
            ..Self::unknown(call_id)
        }
    }

    /// One that no worker has begun.
    pub fn waiting(call_id: &str, queue: &str, function: String, told: &Envelope) -> Self {
        Self {
            state: State::Waiting,
            function: Some(function),
            queue: Some(queue.to_owned()),
            first_seen: Some(told.first_seen),
            since: Some(told.first_seen),
            original_id: Some(told.original_id()),
            redrives: Some(0),
            ..Self::unknown(call_id)
        }
    }

    /// One that ended.
    pub fn ended(call_id: &str, ended: Ended) -> Self {
        let Ended { at, queue, function, original_id, outcome, attempts, .. } = ended;
        let cause = (outcome != COMPLETED).then_some(outcome);
        Self {
            state: state(cause.as_deref()),
            function,
            queue: Some(queue),
            attempts,
            cause,
            worker: Some(ended.worker),
            first_seen: ended.first_seen,
            since: at,
            original_id: Some(original_id),
            redrives: Some(ended.redrives),
            ..Self::unknown(call_id)
        }
    }

    /// One whose dead letter is there.
    pub fn dead(call_id: &str, queue: &str, letter: Letter) -> Self {
        Self {
            state: state(letter.cause.as_deref()),
            function: letter.function,
            queue: Some(queue.to_owned()),
            worker: letter.history.last().map(|last| last.worker.clone()),
            attempts: letter.history,
            cause: letter.cause,
            first_seen: Some(letter.first_seen),
            since: Some(letter.failed_at),
            original_id: Some(letter.original_id),
            redrives: Some(counted(letter.redrives.as_deref())),
            sequence: Some(letter.sequence),
            ..Self::unknown(call_id)
        }
    }

    /// One that was parked, and of which nothing else is known.
    pub fn was_parked(call_id: &str, queue: &str, parked: Parked) -> Self {
        let note = "it was parked, and is not any more; how it ended is not recorded: with audit=failures \
            it is done, or a worker is just taking it";
        Self {
            function: parked.function,
            queue: Some(queue.to_owned()),
            since: parked.at,
            original_id: Some(parked.original_id),
            note: Some(note.to_owned()),
            ..Self::unknown(call_id)
        }
    }
}

/// The state of a call that ended for this cause, or with success.
fn state(cause: Option<&str>) -> State {
    match cause {
        None => State::Done,
        Some(cause) if cause == Cause::Cancelled.as_str() => State::Cancelled,
        Some(_) => State::Dead,
    }
}

/// Puts together what was found: each call once, by its message, those that are under way first, then those
/// that ended last.
pub(super) fn together(found: Vec<Call>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for one in found {
        match calls.iter_mut().find(|known| known.original_id == one.original_id) {
            None => calls.push(one),
            Some(known) => {
                let (sequence, same) = (one.sequence.or(known.sequence), one.redrives == known.redrives);
                if knows_better(&one, known) {
                    *known = one;
                }
                // What a letter adds to a record.
                if same && matches!(known.state, State::Dead | State::Cancelled) {
                    known.sequence = sequence;
                }
            }
        }
    }
    calls.sort_by(|one, other| {
        (other.state >= State::Waiting, other.since).cmp(&(one.state >= State::Waiting, one.since))
    });
    calls
}

/// Whether the first of two knows better what became of the same call: those that are under way; then the
/// last end.
fn knows_better(one: &Call, known: &Call) -> bool {
    match (one.state >= State::Waiting, known.state >= State::Waiting) {
        (true, true) => one.state > known.state,
        (false, false) if one.state == State::Unknown || known.state == State::Unknown => {
            one.state > known.state
        }
        (false, false) => one.since > known.since,
        (under_way, _) => under_way,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn call(origin: &str, state: State, since: u64) -> Call {
        Call {
            state,
            original_id: Some(origin.to_owned()),
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since)),
            ..Call::unknown("a")
        }
    }

    fn check(found: &[(&str, State, u64)], expected: &[(&str, State)]) {
        let found = found.iter().map(|(origin, state, since)| call(origin, *state, *since)).collect();
        let calls = together(found);
        let calls: Vec<_> =
            calls.iter().map(|call| (call.original_id.as_deref().unwrap(), call.state)).collect();
        assert_eq!(calls, expected);
    }

    #[test]
    fn of_one_call_that_which_is_under_way_counts_and_then_its_last_end() {
        use State::*;
        check(&[("q:1", Dead, 5), ("q:1", Done, 9)], &[("q:1", Done)]);
        check(&[("q:1", Done, 9), ("q:1", Dead, 5)], &[("q:1", Done)]);
        check(&[("q:1", Dead, 9), ("q:1", Parked, 5), ("q:1", Running, 1)], &[("q:1", Running)]);
        check(&[("q:1", Running, 1), ("q:1", Parked, 5)], &[("q:1", Running)]);
        check(&[("q:1", Unknown, 9), ("q:1", Cancelled, 5)], &[("q:1", Cancelled)]);
        check(&[("q:1", Done, 5), ("q:1", Unknown, 9)], &[("q:1", Done)]);
    }

    #[test]
    fn two_calls_of_one_id_are_both_shown_the_one_that_is_under_way_first() {
        use State::*;
        check(&[("q:1", Done, 9), ("q:2", Waiting, 1)], &[("q:2", Waiting), ("q:1", Done)]);
        check(&[("q:1", Done, 1), ("q:2", Dead, 2)], &[("q:2", Dead), ("q:1", Done)]);
    }

    #[test]
    fn a_letter_adds_its_number_to_a_record_of_the_same_life() {
        let letter = Call { sequence: Some(7), ..call("q:1", State::Dead, 5) };
        let record = call("q:1", State::Dead, 5);
        assert_eq!(together(vec![record.clone(), letter.clone()])[0].sequence, Some(7));
        assert_eq!(together(vec![letter.clone(), record.clone()])[0].sequence, Some(7));
        let later = Call { redrives: Some(1), ..call("q:1", State::Dead, 9) };
        assert_eq!(together(vec![letter, later])[0].sequence, None);
    }
}
