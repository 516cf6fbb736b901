//! Follows an operation to its end, and shows operations.

use std::{io::Write, time::Duration};

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::{
    cli::Output,
    desk::Desk,
    end::{Failure, cannot},
    out::{self, number},
};
use crate::{
    broker::{jetstream::ApiError, operations::Operations},
    message::{
        names::Names,
        operation::{Kind, Operation, State},
    },
};

/// How often its record is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// After so long without a worker somebody should look for one.
const LONELY: Duration = Duration::from_secs(20);
/// A broker that does not answer is waited for.
const AWAY: Duration = Duration::from_secs(60);

/// How an operation ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With all that was asked for.
    Done,
    /// Before that, for this reason.
    Short(String),
}

/// Follows an operation, and prints how it ended. Whoever ends the command does not end it.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn follow(desk: &Desk, names: &Names, id: &str) -> Result<Ending, Failure> {
    let store = Operations::new(&desk.jetstream, names);
    let (begun, mut heard, mut told) = (Instant::now(), Instant::now(), false);
    if desk.is_watched() {
        eprintln!("operation {id}: it goes on if you leave; queue-worker operations abort {id} ends it");
    }
    loop {
        let operation = match store.get(id).await {
            Ok(Some(known)) => known.operation,
            Ok(None) => return Err(Failure::Cannot(format!("the record of operation {id} is gone"))),
            Err(ApiError::Silent(_)) if heard.elapsed() < AWAY => {
                sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(cannot(format!("{error}; operation {id} goes on without"))),
        };
        heard = Instant::now();
        progress(desk, &operation);
        if !operation.state.is_open() {
            if desk.is_watched() {
                eprintln!();
            }
            print(desk, &operation)?;
            return Ok(ending(&operation));
        }
        if operation.state == State::Waiting && begun.elapsed() > LONELY && !told {
            told = true;
            eprintln!(
                "queue-worker: no worker has taken up operation {id} yet: does one of this version serve {}, \
                with the rights for it? (queue-worker doctor)",
                names.queue
            );
        }
        sleep(LOOK).await;
    }
}

fn progress(desk: &Desk, operation: &Operation) {
    if !desk.is_watched() {
        return;
    }
    let (state, note) = (operation.state.as_str(), operation.note.as_deref().unwrap_or_default());
    let (done, matched) = (number(operation.done), number(operation.matched));
    eprint!("\r\x1b[K{state}: {done} of {matched} {}", out::shown(note));
    // A terminal that is gone is no error.
    let _ = std::io::stderr().flush();
}

fn ending(operation: &Operation) -> Ending {
    let (id, state) = (&operation.operation, operation.state.as_str());
    match (operation.state, &operation.note) {
        (State::Done, _) if operation.failed == 0 => Ending::Done,
        (State::Done, note) => {
            let note = note.as_deref().unwrap_or("they stay where they are");
            Ending::Short(format!("{} could not be done: {note}", number(operation.failed)))
        }
        (_, None) => {
            Ending::Short(format!("operation {id} is {state}; operations resume {id} goes on with it"))
        }
        (_, Some(note)) => Ending::Short(format!(
            "operation {id} is {state}: {note}; operations resume {id} goes on with it"
        )),
    }
}

/// Prints what scripts want to know of an operation.
///
/// # Errors
/// See [`Failure`].
pub(super) fn print(desk: &Desk, operation: &Operation) -> Result<(), Failure> {
    match desk.output {
        Output::Json => out::json(&counts(operation)),
        Output::Table => {
            let Operation { operation: id, state, matched, done, skipped, failed, .. } = operation;
            out::print(&format!(
                "operation {id} is {}: {} matched, {} {}, {} skipped, {} failed\n",
                state.as_str(),
                number(*matched),
                number(*done),
                word(operation.kind),
                number(*skipped),
                number(*failed)
            ));
            Ok(())
        }
    }
}

/// The state of an operation in figures.
pub(super) fn counts(operation: &Operation) -> Value {
    let mut counts = Map::new();
    counts.insert("operation".to_owned(), json!(operation.operation));
    counts.insert("state".to_owned(), json!(operation.state));
    counts.insert("matched".to_owned(), json!(operation.matched));
    counts.insert(word(operation.kind).to_owned(), json!(operation.done));
    counts.insert("skipped".to_owned(), json!(operation.skipped));
    counts.insert("failed".to_owned(), json!(operation.failed));
    Value::Object(counts)
}

/// What became of that with which it is done.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Redrive => "redriven",
        Kind::Discard => "discarded",
        Kind::Cancel => "cancelled",
    }
}
