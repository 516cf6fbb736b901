//! Retries that wait: lists them, and calls some now.

use serde_json::json;
use tokio::time::Instant;

use super::{
    Answer,
    changes::choice,
    cursor::List,
    dead_letters::{LOOK, part, place},
    problem::Problem,
    request::Asked,
};
use crate::{
    message::letter::waiting::Waiting,
    operate::{
        dead_letters::read::Part,
        desk::Desk,
        retries::{call_now, item, read::Retries},
    },
};

/// Lists them.
pub(super) async fn list(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (names, choice) = (desk.queue()?, asked.values.choice(desk.now()));
    let whole = List::new("retries", &asked.values);
    let (limit, after) = place(&asked.values, &names, &whole)?;
    let Some(retries) = Retries::open(&desk, &names, &choice).await? else {
        return Ok(Answer::ok(part("items", Vec::new(), None)));
    };
    let Part { items, next } = retries.behind(after).part(limit, Instant::now() + LOOK).await?;
    let items = items.iter().map(|found| item(&names, found)).collect();
    Ok(Answer::ok(part("items", items, next.map(|after| (&names, &whole, after)))))
}

/// Calls some of them now: those among the next ones that are parked.
pub(super) async fn run_now(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (names, choice) = (desk.queue()?, choice(&desk, &asked.body)?);
    let whole = List::new("run-now", &asked.body);
    let (limit, after) = place(&asked.body, &names, &whole)?;
    let retries = Retries::open(&desk, &names, &choice).await?;
    let found = match retries {
        Some(retries) => retries.behind(after).part(limit, Instant::now() + LOOK).await?,
        None => Part { items: Vec::new(), next: None },
    };
    let parked = found.items.iter().filter(|found| found.state == Waiting::Parked);
    let parked: Vec<_> = parked.map(|found| found.letter.sequence).collect();
    let done = if parked.is_empty() { 0 } else { call_now(&desk, &names, &choice, &parked).await? };
    let mut answer = part("items", Vec::new(), found.next.map(|after| (&names, &whole, after)));
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("items");
        answer.insert("matched".to_owned(), json!(parked.len()));
        answer.insert("done".to_owned(), json!(done));
        answer.insert("skipped".to_owned(), json!(parked.len() - done));
    }
    Ok(Answer::ok(answer))
}
