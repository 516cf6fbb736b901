//! Ends a call: a mark is stored that every worker sees. One that runs is aborted, one that is parked, or
//! held by a pause, is made due, and one that waits ends when a worker takes it.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    ask::{Patience, running, tell},
    find::{Depth, everywhere, find, letters, stored_clone},
    found::{Call, State, together},
};
use crate::{
    broker::{cancels::Cancels, streams::desired},
    message::{audit::Action, call::Cancel, letter::waiting::Waiting, names::Names},
    operate::{
        audit::{because, note},
        cli::Output,
        desk::Desk,
        end::{Failure, cannot},
        out,
    },
    upkeep::janitor::{Scheduled, wake},
};

/// How long its end is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);
/// A sequence that no message has.
const NOWHERE: u64 = 0;
/// Clocks agree to so much.
const SKEW: Duration = Duration::from_secs(5);

/// Cancels the calls of this id.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn cancel(desk: &Desk, call_id: &str, reason: Option<String>) -> Result<(), Failure> {
    desk.may_ask()?;
    let (open, now) = (open(desk, call_id, Depth::Stored).await?, desk.now());
    let what = match open.as_slice() {
        [] => "which no worker has seen".to_owned(),
        [call] => format!("{}, {}", call.function.as_deref().unwrap_or("-"), call.state.as_str()),
        calls => format!("{} calls of this id", calls.len()),
    };
    desk.confirm(&format!("Cancel the call {call_id:?} ({what})?"))?;
    if mark_all(desk, call_id, &open, reason.as_deref()).await? == 0 {
        eprintln!("queue-worker: no worker has heard of it yet; each does before it makes a call");
    }
    let ended = follow(desk, call_id, &open, now, PATIENCE).await?;
    print(desk, call_id, &open, &ended)
}

/// The calls of this id that have not ended; none where no worker has seen any.
///
/// # Errors
/// Where all have ended, and see [`Failure`].
pub(crate) async fn open(desk: &Desk, call_id: &str, depth: Depth) -> Result<Vec<Call>, Failure> {
    still_open(call_id, find(desk, call_id, depth).await?)
}

/// Looks for a call that is marked, and that no index knows, among those that are parked or dead. One that is
/// parked need not wait for its end.
///
/// # Errors
/// Where all of this id have ended, and see [`Failure`].
pub(crate) async fn seek(desk: &Desk, call_id: &str) -> Result<Vec<Call>, Failure> {
    let (queues, mut found) = (desk.queues()?, Vec::new());
    for names in &queues {
        found.extend(everywhere(desk, names, call_id, false).await?);
    }
    let open = still_open(call_id, together(found))?;
    for names in &queues {
        make_all_due(desk, names, &open).await?;
    }
    Ok(open)
}

fn still_open(call_id: &str, calls: Vec<Call>) -> Result<Vec<Call>, Failure> {
    let (open, ended): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.state >= State::Waiting);
    match ended.iter().find(|call| call.state != State::Unknown) {
        Some(ended) if open.is_empty() => Err(over(call_id, ended)),
        _ => Ok(open),
    }
}

/// Why a call cannot be cancelled any more.
fn over(call_id: &str, ended: &Call) -> Failure {
    Failure::Conflict(format!("the call {call_id:?} has ended: it is {}", ended.state.as_str()))
}

/// Marks calls that have not ended, and returns how many workers have heard of it.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn mark_all(
    desk: &Desk,
    call_id: &str,
    open: &[Call],
    reason: Option<&str>,
) -> Result<usize, Failure> {
    let mut heard = 0;
    for names in desk.queues()? {
        // A call that nobody has seen may be of any queue.
        if !open.is_empty() && !open.iter().any(|call| call.queue.as_deref() == Some(&names.queue)) {
            continue;
        }
        heard += mark(desk, &names, call_id, because(reason)).await?;
        make_all_due(desk, &names, open).await?;
    }
    Ok(heard)
}

/// Stores the mark, and tells the workers, of whom so many have heard.
async fn mark(desk: &Desk, names: &Names, call_id: &str, reason: Option<String>) -> Result<usize, Failure> {
    desk.ensure(&names.cancels(), &desired::cancels(&desk.config, names)).await?;
    let cancel = Cancel { call_id: call_id.to_owned(), by: desk.by(), reason: reason.clone() };
    let sequence = Cancels::new(&desk.jetstream, names).add(&cancel).await.map_err(cannot)?;
    let action = Action {
        action: "cancel".to_owned(),
        call_id: Some(call_id.to_owned()),
        reason,
        ..Action::default()
    };
    note(desk, names, action).await;
    tell(desk, names, sequence).await
}

/// Makes those of a queue due that are parked.
async fn make_all_due(desk: &Desk, names: &Names, open: &[Call]) -> Result<(), Failure> {
    let is_its = |call: &&Call| call.state == State::Parked && call.queue.as_deref() == Some(&names.queue);
    for call in open.iter().filter(is_its) {
        make_due(desk, names, call).await?;
    }
    Ok(())
}

/// Makes a parked call due, so that it ends now; also one that a pause holds, if that may be deleted. (One
/// that was moved and not deleted would end a second time.)
async fn make_due(desk: &Desk, names: &Names, call: &Call) -> Result<(), Failure> {
    let Some(origin) = call.original_id.as_deref() else { return Ok(()) };
    let Some(stored) = stored_clone(desk, names, origin).await? else { return Ok(()) };
    let is_held = names.retry(&stored.subject).is_some_and(|(waiting, _)| waiting == Waiting::Held);
    if is_held && desk.jetstream.delete(&names.retries, NOWHERE).await.is_err() {
        return Ok(());
    }
    let schedules = desk.stream(&names.retries).await?.is_some_and(|info| info.config.allows_schedules());
    wake(&desk.jetstream, names, Scheduled::of(stored), schedules).await.map_err(cannot)?;
    Ok(())
}

/// Waits for so long until none of these calls runs or is parked any more, and returns their dead letters.
///
/// # Errors
/// Where they ended otherwise meanwhile, and see [`Failure`].
pub(crate) async fn follow(
    desk: &Desk,
    call_id: &str,
    open: &[Call],
    since: SystemTime,
    patience: Duration,
) -> Result<Vec<Call>, Failure> {
    let (begin, since) = (Instant::now(), since.checked_sub(SKEW).unwrap_or(since));
    if open.is_empty() {
        return Ok(Vec::new());
    }
    loop {
        let mut found = Vec::new();
        for names in desk.queues()? {
            if running(desk, &names, call_id, Patience::Short).await?.is_empty() {
                found.extend(letters(desk, &names, call_id, Some(since)).await?);
            }
        }
        let ended = ends(open, found);
        if ended.len() >= open.len() || begin.elapsed() >= patience {
            return as_asked(call_id, ended);
        }
        sleep(LOOK).await;
    }
}

/// The last end of each of these calls that has one. Other calls of the id may have ended just before.
fn ends(open: &[Call], found: Vec<Call>) -> Vec<Call> {
    let is_meant = |end: &Call| open.iter().any(|call| call.original_id == end.original_id);
    together(found.into_iter().filter(is_meant).collect())
}

/// The ends of a call, those that were asked for first, if one of them is.
fn as_asked(call_id: &str, mut ended: Vec<Call>) -> Result<Vec<Call>, Failure> {
    ended.sort_by_key(|call| call.state != State::Cancelled);
    match ended.first() {
        Some(other) if !is_over(&ended) => Err(over(call_id, other)),
        _ => Ok(ended),
    }
}

/// What became of it, as JSON has it.
pub(crate) fn document(call_id: &str, open: &[Call], ended: &[Call]) -> Value {
    let first = ended.first().or(open.first());
    json!({
        "callId": call_id, "state": if is_over(ended) { "cancelled" } else { "cancelling" },
        "queue": first.and_then(|call| call.queue.as_ref()),
        "function": first.and_then(|call| call.function.as_ref()),
        "sequence": ended.first().and_then(|call| call.sequence),
    })
}

fn is_over(ended: &[Call]) -> bool {
    ended.iter().any(|call| call.state == State::Cancelled)
}

fn print(desk: &Desk, call_id: &str, open: &[Call], ended: &[Call]) -> Result<(), Failure> {
    if desk.output == Output::Json {
        out::json(&document(call_id, open, ended))?;
    } else if is_over(ended) {
        out::print(&format!("the call {call_id:?} is cancelled\n"));
    } else if open.is_empty() {
        out::print(&format!(
            "the call {call_id:?} is marked: if it waits, it ends as cancelled when a worker takes it\n"
        ));
    } else {
        out::print(&format!("the call {call_id:?} is marked, and has not ended yet\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ended_otherwise_meanwhile_was_not_cancelled() {
        let of = |state| Call { state, ..Call::unknown("a") };
        let ended = |states: &[State]| as_asked("a", states.iter().map(|state| of(*state)).collect());
        assert_eq!(ended(&[]).unwrap(), []);
        assert_eq!(ended(&[State::Dead, State::Cancelled]).unwrap().len(), 2);
        let Err(Failure::Conflict(said)) = ended(&[State::Dead]) else { panic!() };
        assert_eq!(said, "the call \"a\" has ended: it is dead");
    }

    #[test]
    fn a_call_of_the_same_id_that_died_just_before_is_not_what_was_cancelled() {
        let of = |origin: &str, state| Call {
            state,
            original_id: Some(origin.to_owned()),
            sequence: Some(state as u64),
            ..Call::unknown("a")
        };
        let open = [of("q:1", State::Parked)];
        assert_eq!(ends(&open, vec![of("q:2", State::Dead)]), []);
        let ended = ends(&open, vec![of("q:2", State::Dead), of("q:1", State::Cancelled)]);
        let told = document("a", &open, &as_asked("a", ended).unwrap());
        assert_eq!(
            (&told["state"], &told["sequence"]),
            (&"cancelled".into(), &json!(State::Cancelled as u64))
        );
    }
}
