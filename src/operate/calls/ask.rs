//! Asks all workers at once which calls of an id run. Nobody knows how many workers there are: those that
//! answer are waited for until all is still.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    message::{
        call::{Heard, Question, Reply, Running},
        names::Names,
    },
    operate::{
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// Whoever answers does so within this.
const DEADLINE: Duration = Duration::from_secs(1);
/// Where somebody answered and then nobody for so long, all have.
const STILL: Duration = Duration::from_millis(25);

/// How patiently workers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is still for a moment.
    Short,
    /// As long as any worker may take.
    Long,
}

/// The calls of this id that run, each with its worker.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn running(
    desk: &Desk,
    names: &Names,
    call_id: &str,
    patience: Patience,
) -> Result<Vec<(String, Running)>, Failure> {
    let question = Question { call_id: call_id.to_owned() };
    let replies = ask(desk, names.running_calls(), &question, patience).await?;
    let of = |Reply { worker, calls }: Reply| calls.into_iter().map(move |call| (worker.clone(), call));
    Ok(replies.into_iter().flat_map(of).collect())
}

/// Tells all workers that something was cancelled, and returns how many have heard of it.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn tell(desk: &Desk, names: &Names, sequence: u64) -> Result<usize, Failure> {
    let heard = ask(desk, names.cancelled_calls(), &Heard { sequence }, Patience::Long).await?;
    Ok(heard.len())
}

async fn ask(
    desk: &Desk,
    subject: String,
    question: &impl Serialize,
    patience: Patience,
) -> Result<Vec<Reply>, Failure> {
    let client = desk.jetstream.client();
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(cannot)?;
    let question = serde_json::to_vec(question).map_err(cannot)?;
    let asked = client.publish_with_reply(subject, inbox, question.into()).await;
    asked.map_err(cannot)?;
    let (deadline, mut until, mut found) = (Instant::now() + DEADLINE, Instant::now() + DEADLINE, Vec::new());
    while let Ok(Some(reply)) = timeout_at(until, replies.next()).await {
        // Nobody listens.
        if reply.status.is_some() {
            break;
        }
        if patience == Patience::Short {
            until = deadline.min(Instant::now() + STILL);
        }
        found.extend(serde_json::from_slice::<Reply>(&reply.payload).ok());
    }
    Ok(found)
}
