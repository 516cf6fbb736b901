//! Pauses of a queue, or of a function of it.

use serde_json::json;

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    audit::because,
    cli::Pausing,
    desk::Desk,
    queue::{self, told},
};

fn which(asked: &Asked) -> Pausing {
    Pausing { function: asked.values.text("function").map(str::to_owned) }
}

/// Pauses it.
pub(super) async fn pause(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (names, reason) = (desk.queue()?, because(asked.body.text("reason")));
    let pauses = queue::pause(&desk, &names, &which(&asked), reason.as_deref()).await?;
    Ok(Answer::ok(told(&pauses, json!({ "queue": names.queue }))))
}

/// Ends its pause.
pub(super) async fn resume(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let names = desk.queue()?;
    let pauses = queue::resume(&desk, &names, &which(&asked)).await?;
    Ok(Answer::ok(told(&pauses, json!({ "queue": names.queue }))))
}
