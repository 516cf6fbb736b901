//! Shows records.

use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{
    message::{
        audit::{Action, Call, ENDED, Record},
        letter::choice::Choice,
    },
    operate::out::{Table, number, or_dash, time},
};

/// The columns of records.
pub(super) fn table() -> Table {
    Table::new(&["AT", "QUEUE", "WHAT", "FUNCTION", "ATTEMPTS", "TOOK", "CALL OR OPERATION", "BY", "MORE"])
}

/// A record as a row.
pub(super) fn row(record: &Record) -> Vec<String> {
    let at = record.at().map(time).unwrap_or_default();
    match record {
        Record::Call(call) => call_row(at, call),
        Record::Parked(parked) => {
            let function = or_dash(parked.function.as_deref());
            let id = or_dash(parked.call_id.as_deref());
            let dash = || "-".to_owned();
            vec![at, dash(), "parked".to_owned(), function, dash(), dash(), id, dash(), String::new()]
        }
        Record::Action(action) => action_row(at, action),
    }
}

fn call_row(at: String, call: &Call) -> Vec<String> {
    let took = std::time::Duration::from_millis(call.milliseconds);
    let last = call.attempts.last().map(|attempt| format!("last status {}", attempt.status.text()));
    vec![
        at,
        call.queue.clone(),
        call.outcome.clone(),
        or_dash(call.function.as_deref()),
        call.attempts_made.to_string(),
        humantime::format_duration(took).to_string().replace(' ', ""),
        or_dash(call.call_id.as_deref()),
        call.worker.clone(),
        last.unwrap_or_default(),
    ]
}

fn action_row(at: String, action: &Action) -> Vec<String> {
    let word = if action.action == ENDED { "done" } else { "meant" };
    let count = action.count.map(|count| format!("{} {word}", number(count)));
    // As it would be typed.
    let filter = action.filter.as_ref().and_then(|filter| Choice::deserialize(filter).ok());
    let filter = filter.filter(|choice| !choice.is_all()).map(|choice| choice.to_string());
    let more = [count, action.state.clone(), action.reason.clone(), filter];
    vec![
        at,
        action.queue.clone(),
        action.action.clone(),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        or_dash(action.call_id.as_deref().or(action.operation.as_deref())),
        action.by.clone(),
        more.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}

/// Records as one JSON document.
pub(super) fn document(records: &[Record], more: bool) -> Value {
    json!({ "items": records, "more": more })
}
