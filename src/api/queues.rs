//! How much there is of everything in the queues.

use serde_json::json;

use super::{Answer, problem::Problem, request::Asked};
use crate::operate::{
    desk::Desk,
    queue::stats::{document, read},
};

/// Of all queues.
pub(super) async fn list(desk: Desk, _: Asked) -> Result<Answer, Problem> {
    let mut all = Vec::new();
    for names in desk.queues()? {
        all.extend(read(&desk, names).await?.as_ref().map(document));
    }
    Ok(Answer::ok(json!({ "queues": all })))
}

/// Of one queue.
pub(super) async fn show(desk: Desk, _: Asked) -> Result<Answer, Problem> {
    let names = desk.queue()?;
    let queue = names.queue.clone();
    let stats = read(&desk, names).await?;
    let none = || Problem::not_found(format!("no worker has served the queue {queue} yet"));
    Ok(Answer::ok(document(&stats.ok_or_else(none)?)))
}
