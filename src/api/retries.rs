//! Retries that wait.

use tokio::time::Instant;

use super::{
    Answer,
    dead_letters::{LOOK, part, place},
    problem::Problem,
    request::Asked,
};
use crate::operate::{
    dead_letters::read::Part,
    desk::Desk,
    retries::{item, read::Retries},
};

/// Lists them.
pub(super) async fn list(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    const LIST: &str = "retries";
    let (names, choice) = (desk.queue()?, asked.values.choice(desk.now()));
    let (limit, after) = place(&asked.values, &names, LIST)?;
    let Some(retries) = Retries::open(&desk, &names, &choice).await? else {
        return Ok(Answer::ok(part("items", Vec::new(), None)));
    };
    let Part { items, next } = retries.behind(after).part(limit, Instant::now() + LOOK).await?;
    let items = items.iter().map(|found| item(&names, found)).collect();
    Ok(Answer::ok(part("items", items, next.map(|after| (&names, LIST, after)))))
}
