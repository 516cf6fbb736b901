//! Calls: where one is, and its end.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    calls::{
        cancel,
        find::{Depth, find},
        found::{Call, State},
        show::document,
    },
    desk::Desk,
    end::Failure,
};

/// How long the end of a cancelled call is waited for.
const END: Duration = Duration::from_secs(5);
/// How long a cancelled call is looked for that no index knows.
const SEEK: Duration = Duration::from_secs(30);
/// A look at every message is work for the broker, and nobody is to have more of it by asking more.
static SCANS: Semaphore = Semaphore::const_new(1);

/// The one turn to look at every message.
fn scan() -> Result<SemaphorePermit<'static>, Problem> {
    SCANS.try_acquire().map_err(|_| Problem::not_now("another request looks at every message just now"))
}

fn is_unknown(found: &[Call]) -> bool {
    found.first().is_none_or(|call| call.state == State::Unknown)
}

/// Says where a call is. What workers and the index of the audit know costs nobody much, and comes first.
pub(super) async fn show(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (call_id, all) = (asked.values.text("callId").unwrap_or_default(), asked.values.flag("scan"));
    let mut found = if all { Vec::new() } else { find(&desk, call_id, Depth::Known).await? };
    if is_unknown(&found) {
        let _turn = scan()?;
        found = find(&desk, call_id, if all { Depth::All } else { Depth::Stored }).await?;
    }
    if is_unknown(&found) {
        let hint = if all { "" } else { "; one that no worker has seen is found with scan=true" };
        let note = found.first().and_then(|call| call.note.as_deref()).unwrap_or_default();
        let note = if note.is_empty() { String::new() } else { format!(": {note}") };
        return Err(Problem::not_found(format!("nothing is known of the call {call_id:?}{note}{hint}")));
    }
    Ok(Answer::ok(document(&found)?))
}

/// Ends a call.
pub(super) async fn end(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (call_id, reason) = (asked.values.text("callId").unwrap_or_default(), asked.values.text("reason"));
    let (mut open, now) = (cancel::open(&desk, call_id, Depth::Known).await?, desk.now());
    cancel::mark_all(&desk, call_id, &open, reason).await?;
    // The mark stands, and does without a look; with one a call that is parked ends at once.
    if open.is_empty()
        && let Ok(_turn) = scan()
    {
        match timeout(SEEK, cancel::seek(&desk, call_id)).await {
            Ok(Err(ended @ Failure::Conflict(_))) => return Err(ended.into()),
            Ok(Ok(found)) => open = found,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    let ended = cancel::follow(&desk, call_id, &open, now, END).await?;
    let document = cancel::document(call_id, &open, &ended);
    Ok(if ended.is_empty() { Answer::accepted(document, None) } else { Answer::ok(document) })
}
