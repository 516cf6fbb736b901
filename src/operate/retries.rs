//! `queue-worker retries`: looks at the retries that wait for their time, calls some of them now, and cancels
//! some.

mod cancel;
pub(crate) mod read;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use self::read::{Found, Retries, nothing};
use super::{
    audit::note,
    cli::{Choosing, Filter, Output, RetriesCommand},
    desk::Desk,
    end::{Failure, cannot},
    out::{self, Page, Table, number, or_dash, time},
};
use crate::{
    message::{
        audit::Action,
        envelope::rfc3339,
        letter::{choice::Choice, waiting::Waiting},
        names::Names,
    },
    upkeep::janitor::{Scheduled, wake},
};

/// How many are moved at once.
const AT_ONCE: usize = 32;

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: RetriesCommand) -> Result<(), Failure> {
    match command {
        RetriesCommand::List { filter, limit } => list(desk, &filter, limit).await,
        RetriesCommand::RunNow { chosen } => run_now(desk, &chosen).await,
        RetriesCommand::Cancel(how) => cancel::cancel(desk, &how).await,
    }
}

async fn list(desk: &Desk, filter: &Filter, limit: Option<u64>) -> Result<(), Failure> {
    let (queues, choice) = (desk.queues()?, filter.choice(desk.now()));
    let titles = ["SEQUENCE", "STATE", "DUE", "QUEUE", "FUNCTION", "STATUS", "ATTEMPTS", "CALL ID", "ERROR"];
    let (mut page, mut table, mut listed, mut more) = (Page::new(), Table::new(&titles), 0, false);
    let json = desk.output == Output::Json;
    if json {
        page.put("{\"items\":[");
    }
    'queues: for names in queues {
        let Some(mut retries) = Retries::open(desk, &names, &choice).await? else { continue };
        while let Some(found) = retries.next().await? {
            if limit.is_some_and(|limit| listed == limit) {
                more = true;
                break 'queues;
            }
            if json {
                page.put(if listed == 0 { "\n" } else { ",\n" });
                page.put(&item(&names, &found).to_string());
            } else {
                page.put(&table.rows(&[row(&names, &found)]));
            }
            listed += 1;
            if page.closed {
                break 'queues;
            }
        }
    }
    if json {
        page.put(&format!("\n],\"more\":{more}}}\n"));
    }
    page.end();
    if listed == 0 { Err(nothing(&choice)) } else { Ok(()) }
}

/// A retry as JSON has it.
pub(crate) fn item(names: &Names, Found { letter, state, due, .. }: &Found) -> Value {
    json!({
        "sequence": letter.sequence, "queue": names.queue, "function": letter.function,
        "callId": letter.call_id, "state": state.as_str(), "due": due.map(rfc3339),
        "attempts": letter.attempts, "lastStatus": letter.last_status, "lastError": letter.last_error,
        "firstSeen": rfc3339(letter.first_seen), "originalId": letter.original_id, "bytes": letter.bytes,
        "kind": if letter.is_callback { "callback" } else { "call" },
    })
}

fn row(names: &Names, Found { letter, state, due, .. }: &Found) -> Vec<String> {
    let status = letter.last_status.as_ref().map(|status| status.text().into_owned());
    vec![
        letter.sequence.to_string(),
        state.as_str().to_owned(),
        due.map_or_else(|| "-".to_owned(), time),
        names.queue.clone(),
        or_dash(letter.function.as_deref()),
        or_dash(status.as_deref()),
        letter.attempts.to_string(),
        or_dash(letter.call_id.as_deref()),
        or_dash(letter.last_error.as_deref()),
    ]
}

/// Moves parked retries to the due ones. What is due or held already is left alone.
async fn run_now(desk: &Desk, chosen: &Choosing) -> Result<(), Failure> {
    desk.may_ask()?;
    let (names, choice) = (desk.queue()?, chosen.choice(desk.now()));
    let Some(mut retries) = Retries::open(desk, &names, &choice).await? else {
        return Err(nothing(&choice));
    };
    let mut parked = Vec::new();
    while let Some(found) = retries.next().await? {
        if found.state == Waiting::Parked {
            parked.push(found.letter.sequence);
        }
    }
    if parked.is_empty() {
        return Err(nothing(&choice));
    }
    let many = number(parked.len() as u64);
    desk.confirm(&format!("Call {many} parked retries of {} ({choice}) now?", names.queue))?;
    let done = call_now(desk, &names, &choice, &parked).await?;
    let (matched, skipped) = (parked.len(), parked.len() - done);
    if desk.output == Output::Json {
        return out::json(&json!({ "matched": matched, "done": done, "skipped": skipped }));
    }
    let gone = if skipped == 0 { String::new() } else { format!(", {skipped} were not there any more") };
    out::print(&format!("{} of {many} retries are due now{gone}\n", number(done as u64)));
    Ok(())
}

/// Moves these parked retries to the due ones, and returns how many were there yet.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn call_now(
    desk: &Desk,
    names: &Names,
    choice: &Choice,
    parked: &[u64],
) -> Result<usize, Failure> {
    let schedules = desk.stream(&names.retries).await?.is_some_and(|info| info.config.allows_schedules());
    let moved: Vec<bool> = stream::iter(parked.iter().copied())
        .map(|sequence| async move {
            // It may be due by now, or settled.
            let stored = desk.jetstream.stored(&names.retries, sequence).await.map_err(cannot)?;
            let Some(stored) = stored else { return Ok(false) };
            wake(&desk.jetstream, names, Scheduled::of(stored), schedules).await.map_err(cannot)
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let done = moved.iter().filter(|moved| **moved).count();
    let action = Action {
        action: "run-now".to_owned(),
        filter: serde_json::to_value(choice).ok(),
        count: Some(done as u64),
        ..Action::default()
    };
    note(desk, names, action).await;
    Ok(done)
}
