//! Calls: where one is, and its end.

use std::time::Duration;

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    calls::{cancel, find::find, found::State, show::document},
    desk::Desk,
};

/// How long the end of a cancelled call is waited for.
const END: Duration = Duration::from_secs(5);

/// Says where a call is.
pub(super) async fn show(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (call_id, scan) = (asked.values.text("callId").unwrap_or_default(), asked.values.flag("scan"));
    let found = find(&desk, call_id, scan).await?;
    if found.first().is_none_or(|call| call.state == State::Unknown) {
        let hint = if scan { "" } else { "; one that no worker has seen is found with scan=true" };
        let note = found.first().and_then(|call| call.note.as_deref()).unwrap_or_default();
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        return Err(Problem::not_found(format!("nothing is known of the call {call_id:?}{note}{hint}")));
    }
    Ok(Answer::ok(document(&found)?))
}

/// Ends a call.
pub(super) async fn end(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (call_id, reason) = (asked.values.text("callId").unwrap_or_default(), asked.values.text("reason"));
    let (open, now) = (cancel::open(&desk, call_id).await?, desk.now());
    cancel::mark_all(&desk, call_id, &open, reason).await?;
    let ended = if open.is_empty() { Vec::new() } else { cancel::follow(&desk, call_id, now, END).await? };
    let document = cancel::document(call_id, &open, &ended);
    Ok(if ended.is_empty() { Answer::accepted(document, None) } else { Answer::ok(document) })
}
