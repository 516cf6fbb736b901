//! Shows where a call is.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    find::{Depth, find},
    found::{Call, State},
};
use crate::operate::{
    cli::Output,
    desk::Desk,
    end::{Failure, cannot},
    out::{self, Table, or_dash, shown, time},
};

/// Shows the calls of this id.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn show(desk: &Desk, call_id: &str, scan: bool) -> Result<(), Failure> {
    let found = find(desk, call_id, if scan { Depth::All } else { Depth::Stored }).await?;
    let unknown = [Call::unknown(call_id)];
    let shown = if found.is_empty() { &unknown } else { found.as_slice() };
    match desk.output {
        Output::Json => out::json(&document(shown)?)?,
        Output::Table => out::print(&shown.iter().map(text).collect::<Vec<_>>().join("\n")),
    }
    if shown.first().is_some_and(|call| call.state != State::Unknown) {
        return Ok(());
    }
    let hint = if scan { "" } else { "; one that no worker has seen is found with --scan" };
    Err(Failure::Nothing(format!("nothing is known of the call {call_id:?}{hint}")))
}

/// The first of some calls, with the others of its id.
///
/// # Errors
/// See [`Failure`].
pub(crate) fn document(calls: &[Call]) -> Result<Value, Failure> {
    let (first, others) = calls.split_first().ok_or_else(|| cannot("there is no call"))?;
    let mut document = serde_json::to_value(first).map_err(cannot)?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("others".to_owned(), json!(others));
    }
    Ok(document)
}

/// The number of its dead letter, or how to come by it.
fn letter(call: &Call) -> String {
    match (call.sequence, call.state) {
        (Some(sequence), _) => sequence.to_string(),
        (None, State::Dead | State::Cancelled) => {
            "dead-letters list --call-id finds it, if it was kept".to_owned()
        }
        (None, _) => "-".to_owned(),
    }
}

fn text(call: &Call) -> String {
    let moment = |at: Option<std::time::SystemTime>| at.map_or("-".to_owned(), time);
    let facts = [
        ("call", call.call_id.clone()),
        ("state", call.state.as_str().to_owned()),
        ("since", moment(call.since)),
        ("function", or_dash(call.function.as_deref())),
        ("queue", or_dash(call.queue.as_deref())),
        ("worker", or_dash(call.worker.as_deref())),
        ("due", moment(call.due)),
        ("cause", or_dash(call.cause.as_deref())),
        ("letter", letter(call)),
        ("first seen", moment(call.first_seen)),
        ("original", or_dash(call.original_id.as_deref())),
        (
            "redrives",
            call.redrives.filter(|redrives| *redrives > 0).map_or("-".to_owned(), |n| n.to_string()),
        ),
        ("note", or_dash(call.note.as_deref())),
    ];
    let told = facts.iter().filter(|(_, fact)| fact != "-");
    let mut text: String = told.map(|(name, fact)| format!("{name:10}  {}\n", shown(fact))).collect();
    if !call.attempts.is_empty() {
        let rows: Vec<_> = call
            .attempts
            .iter()
            .map(|attempt| {
                let took = humantime::format_duration(Duration::from_millis(attempt.milliseconds));
                vec![
                    attempt.n.to_string(),
                    attempt.status.text().into_owned(),
                    took.to_string().replace(' ', ""),
                    attempt.worker.clone(),
                    moment(attempt.at),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&Table::new(&["ATTEMPT", "STATUS", "TOOK", "WORKER", "AT"]).rows(&rows));
    }
    text
}
