//! Ends a call: a mark is stored that every worker sees. One that runs is aborted, one that is parked is made
//! due, and one that waits ends when a worker takes it.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    ask::{Patience, running, tell},
    find::{find, letters, stored_clone},
    found::{Call, State},
};
use crate::{
    broker::{cancels::Cancels, streams::desired},
    message::{audit::Action, call::Cancel, names::Names},
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
/// Clocks agree to so much.
const SKEW: Duration = Duration::from_secs(5);

/// Cancels the calls of this id.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn cancel(desk: &Desk, call_id: &str, reason: Option<String>) -> Result<(), Failure> {
    desk.may_ask()?;
    let found = find(desk, call_id, false).await?;
    let open: Vec<_> = found.iter().filter(|call| call.state >= State::Waiting).collect();
    let ended = found.iter().find(|call| call.state != State::Unknown).filter(|_| open.is_empty());
    if let Some(ended) = ended {
        let state = ended.state.as_str();
        return Err(Failure::Cannot(format!("the call {call_id:?} has ended: it is {state}")));
    }
    let what = match open.as_slice() {
        [] => "which no worker has seen".to_owned(),
        [call] => format!("{}, {}", call.function.as_deref().unwrap_or("-"), call.state.as_str()),
        calls => format!("{} calls of this id", calls.len()),
    };
    desk.confirm(&format!("Cancel the call {call_id:?} ({what})?"))?;
    let reason = because(reason.as_deref());
    let (now, mut heard) = (desk.now(), 0);
    for names in desk.queues()? {
        // A call that nobody has seen may be of any queue.
        let of_queue: Vec<_> =
            open.iter().filter(|call| call.queue.as_deref() == Some(&names.queue)).collect();
        if of_queue.is_empty() && !open.is_empty() {
            continue;
        }
        heard += mark(desk, &names, call_id, reason.clone()).await?;
        for call in of_queue.iter().filter(|call| call.state == State::Parked) {
            make_due(desk, &names, call).await?;
        }
    }
    if heard == 0 {
        eprintln!("queue-worker: no worker has heard of it yet; each does before it makes a call");
    }
    let ended = if open.is_empty() { Vec::new() } else { follow(desk, call_id, now).await? };
    print(desk, call_id, &open, &ended)
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

/// Makes a parked call due, so that it ends now.
async fn make_due(desk: &Desk, names: &Names, call: &Call) -> Result<(), Failure> {
    let Some(origin) = call.original_id.as_deref() else { return Ok(()) };
    let Some(stored) = stored_clone(desk, names, origin).await? else { return Ok(()) };
    let schedules = desk.stream(&names.retries).await?.is_some_and(|info| info.config.allows_schedules());
    wake(&desk.jetstream, names, Scheduled::of(stored), schedules).await.map_err(cannot)?;
    Ok(())
}

/// Waits until it does not run and is not parked any more, and returns its dead letters.
async fn follow(desk: &Desk, call_id: &str, since: SystemTime) -> Result<Vec<Call>, Failure> {
    let (begin, since) = (Instant::now(), since.checked_sub(SKEW).unwrap_or(since));
    loop {
        let mut ended = Vec::new();
        for names in desk.queues()? {
            if running(desk, &names, call_id, Patience::Short).await?.is_empty() {
                ended.extend(letters(desk, &names, call_id, Some(since)).await?);
            }
        }
        if !ended.is_empty() || begin.elapsed() >= PATIENCE {
            return Ok(ended);
        }
        sleep(LOOK).await;
    }
}

fn print(desk: &Desk, call_id: &str, open: &[&Call], ended: &[Call]) -> Result<(), Failure> {
    let is_over = ended.iter().any(|call| call.state == State::Cancelled);
    let state = if is_over { "cancelled" } else { "cancelling" };
    let first = ended.first().or(open.first().copied());
    if desk.output == Output::Json {
        out::json(&json!({
            "callId": call_id, "state": state, "queue": first.and_then(|call| call.queue.as_ref()),
            "function": first.and_then(|call| call.function.as_ref()),
            "sequence": ended.first().and_then(|call| call.sequence),
        }))?;
    } else if is_over {
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
