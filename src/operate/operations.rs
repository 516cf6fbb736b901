//! `queue-worker operations`: what was asked for, how far it is, and its end.

use serde_json::{Value, json};

use super::{
    audit::{act, note},
    cli::{OperationsCommand, Output},
    desk::Desk,
    end::{Failure, cannot},
    follow::{self, counts},
    out::{self, Table, number, or_dash, time},
};
use crate::{
    broker::operations::{Known, Operations},
    message::{
        envelope::rfc3339,
        names::Names,
        operation::{Operation, State},
    },
};

/// How often a word is tried to be written while its worker writes, too.
const TRIES: usize = 200;

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: OperationsCommand) -> Result<(), Failure> {
    match command {
        OperationsCommand::List => list(desk).await,
        OperationsCommand::Show { id } => {
            let (_, known) = find(desk, &id).await?;
            show(desk, &known.operation)
        }
        OperationsCommand::Resume { id, detach } => {
            let (names, known) = change(desk, &id, Change::Resume).await?;
            end(desk, &names, &known.operation, detach, State::Done).await
        }
        OperationsCommand::Abort { id, detach } => {
            let (names, known) = change(desk, &id, Change::Abort).await?;
            end(desk, &names, &known.operation, detach, State::Aborted).await
        }
    }
}

/// Follows it to the end that was asked for.
async fn end(
    desk: &Desk,
    names: &Names,
    operation: &Operation,
    detach: bool,
    wanted: State,
) -> Result<(), Failure> {
    let id = &operation.operation;
    if detach {
        return follow::print(desk, operation);
    }
    match follow::follow(desk, names, id).await? {
        follow::Ending::Short(reason) if wanted == State::Done => Err(Failure::Cannot(reason)),
        follow::Ending::Done if wanted == State::Aborted => {
            Err(Failure::Cannot(format!("operation {id} was done before it could be ended")))
        }
        _ => Ok(()),
    }
}

/// The operation of this id, whichever queue's it is.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn find(desk: &Desk, id: &str) -> Result<(Names, Known), Failure> {
    // It becomes a word of a subject.
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        for names in desk.queues()? {
            if let Some(known) = Operations::new(&desk.jetstream, &names).get(id).await.map_err(cannot)? {
                return Ok((names, known));
            }
        }
    }
    Err(Failure::Nothing(format!("there is no operation {id:?}")))
}

/// The next word of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It goes on.
    Resume,
    /// It ends.
    Abort,
}

/// Writes the next word of an operation.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn change(desk: &Desk, id: &str, change: Change) -> Result<(Names, Known), Failure> {
    for _ in 0..TRIES {
        let (names, mut known) = find(desk, id).await?;
        let store = Operations::new(&desk.jetstream, &names);
        let operation = &mut known.operation;
        let done = match change {
            Change::Resume => operation.resume(),
            Change::Abort => operation.abort(desk.now()),
        };
        done.map_err(|reason| Failure::Conflict(format!("operation {id}: {reason}")))?;
        if change == Change::Resume {
            // Its letters may have been given to others meanwhile.
            for other in store.all().await.map_err(cannot)? {
                let share = other.operation.share();
                if other.operation.is_beside(operation.kind) && !operation.except.contains(&share) {
                    operation.except.push(share);
                }
            }
        }
        operation.updated = Some(desk.now());
        if let Some(revision) = store.put(operation, known.revision).await.map_err(cannot)? {
            let word = if change == Change::Resume { "resume" } else { "abort" };
            note(desk, &names, act(word, operation)).await;
            known.revision = revision;
            return Ok((names, known));
        }
    }
    Err(cannot("its record is being written all the time; try again"))
}

/// All of them, the oldest first.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn all(desk: &Desk) -> Result<Vec<Operation>, Failure> {
    let mut all = Vec::new();
    for names in desk.queues()? {
        let known = Operations::new(&desk.jetstream, &names).all().await.map_err(cannot)?;
        all.extend(known.into_iter().map(|known| known.operation));
    }
    all.sort_by(|one, other| one.operation.cmp(&other.operation));
    Ok(all)
}

async fn list(desk: &Desk) -> Result<(), Failure> {
    let all = all(desk).await?;
    if desk.output == Output::Json {
        let items: Vec<_> = all.iter().map(whole).collect();
        out::json(&json!({ "items": items, "more": false }))?;
    } else if !all.is_empty() {
        let titles = [
            "OPERATION",
            "MADE",
            "KIND",
            "QUEUE",
            "STATE",
            "MATCHED",
            "DONE",
            "SKIPPED",
            "FAILED",
            "BY",
            "WHAT",
        ];
        let rows: Vec<_> = all.iter().map(row).collect();
        out::print(&Table::new(&titles).rows(&rows));
    }
    if all.is_empty() { Err(Failure::Nothing("there is no operation".to_owned())) } else { Ok(()) }
}

fn row(operation: &Operation) -> Vec<String> {
    vec![
        operation.operation.clone(),
        operation.made.map(time).unwrap_or_default(),
        operation.kind.as_str().to_owned(),
        operation.queue.clone(),
        operation.state.as_str().to_owned(),
        number(operation.matched),
        number(operation.done),
        number(operation.skipped),
        number(operation.failed),
        operation.by.clone(),
        operation.choice.to_string(),
    ]
}

/// An operation as JSON has it.
pub(crate) fn whole(operation: &Operation) -> Value {
    let mut whole = counts(operation);
    let told = json!({
        "kind": operation.kind, "queue": operation.queue, "by": operation.by, "reason": operation.reason,
        "filter": operation.choice.said(), "cutoff": operation.cutoff,
        "rate": operation.rate, "to": operation.to,
        "canary": operation.canary.as_ref().map(|canary| canary.calls),
        "require": operation.canary.as_ref().map(|canary| canary.require),
        "cursor": operation.cursor, "worker": operation.worker, "note": operation.note,
        "made": operation.made.map(rfc3339), "updated": operation.updated.map(rfc3339),
    });
    if let (Value::Object(whole), Value::Object(told)) = (&mut whole, told) {
        whole.extend(told);
    }
    whole
}

fn show(desk: &Desk, operation: &Operation) -> Result<(), Failure> {
    if desk.output == Output::Json {
        return out::json(&whole(operation));
    }
    let canary = operation.canary.as_ref();
    let facts = [
        ("operation", operation.operation.clone()),
        ("kind", operation.kind.as_str().to_owned()),
        ("queue", operation.queue.clone()),
        ("state", operation.state.as_str().to_owned()),
        ("note", or_dash(operation.note.as_deref())),
        ("what", format!("{} up to sequence {}", operation.choice, operation.cutoff)),
        ("matched", number(operation.matched)),
        ("done", number(operation.done)),
        ("skipped", number(operation.skipped)),
        ("failed", number(operation.failed)),
        ("rate", operation.rate.map_or("-".to_owned(), |rate| format!("at most {rate} a second"))),
        ("to", or_dash(operation.to.as_deref())),
        (
            "canary",
            canary.map_or("-".to_owned(), |canary| {
                format!("{} first, of which {} % have to succeed", canary.calls, canary.require)
            }),
        ),
        ("by", operation.by.clone()),
        ("reason", or_dash(operation.reason.as_deref())),
        ("made", operation.made.map(time).unwrap_or_default()),
        ("updated", operation.updated.map(time).unwrap_or_default()),
        ("worker", or_dash(operation.worker.as_deref())),
    ];
    let lines = facts.map(|(name, fact)| format!("{name:10}  {}\n", out::shown(&fact)));
    out::print(&lines.concat());
    Ok(())
}
