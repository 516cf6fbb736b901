//! Operations: redrives and discards.

use serde_json::{Value, json};

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    desk::Desk,
    operations::{all, find, whole},
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
