//! Operations: lists them, shows one, ends one or goes on with it.

use serde_json::{Value, json};

use super::{Answer, problem::Problem, request::Asked};
use crate::{
    message::operation::State,
    operate::{
        desk::Desk,
        operations::{Change, all, change, find, whole},
    },
};

/// Lists them.
pub(super) async fn list(desk: Desk, _: Asked) -> Result<Answer, Problem> {
    let items: Vec<Value> = all(&desk).await?.iter().map(whole).collect();
    Ok(Answer::ok(json!({ "items": items, "more": false })))
}

/// Shows one.
pub(super) async fn show(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (_, known) = find(&desk, asked.values.text("operation").unwrap_or_default()).await?;
    Ok(Answer::ok(whole(&known.operation)))
}

/// Ends one. One that is ended already is what was asked for.
pub(super) async fn abort(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    alter(&desk, &asked, Change::Abort, &[State::Aborting, State::Aborted]).await
}

/// Goes on with one that was stopped or aborted. One that goes on already is what was asked for.
pub(super) async fn resume(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    alter(&desk, &asked, Change::Resume, &[State::Waiting, State::Running]).await
}

async fn alter(desk: &Desk, asked: &Asked, to: Change, is_so: &[State]) -> Result<Answer, Problem> {
    let id = asked.values.text("operation").unwrap_or_default();
    let (_, mut known) = find(desk, id).await?;
    if !is_so.contains(&known.operation.state) {
        (_, known) = change(desk, id, to).await?;
    }
    Ok(Answer::ok(whole(&known.operation)))
}
