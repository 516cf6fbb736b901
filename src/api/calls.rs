//! Calls: where one is.

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    calls::{find::find, found::State, show::document},
    desk::Desk,
};

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
