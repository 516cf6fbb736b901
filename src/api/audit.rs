//! The audit: what became of calls, and what operators did.

use serde_json::json;
use tokio::time::Instant;

use super::{
    Answer,
    cursor::{Cursor, List},
    dead_letters::{LOOK, part},
    problem::Problem,
    request::Asked,
    values::Values,
};
use crate::operate::{audit::search, cli::Searching, desk::Desk};

/// Lists records, each queue's in turn.
pub(super) async fn list(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (values, wanted) = (&asked.values, wanted(&asked.values));
    let limit = usize::try_from(values.number("limit").unwrap_or(100)).unwrap_or(usize::MAX);
    let (queues, whole) = (desk.queues()?, List::new("audit", values));
    let cursor = values.text("cursor").map(|text| Cursor::read(&whole, &queues, text)).transpose()?;
    let from = cursor.as_ref().and_then(|cursor| queues.iter().position(|names| names.queue == cursor.queue));
    let mut after = cursor.map_or(0, |cursor| cursor.after);
    let (mut items, mut next, until) = (Vec::new(), None, Instant::now() + LOOK);
    for names in queues.iter().skip(from.unwrap_or(0)) {
        let found =
            search::part(&desk, names, &wanted, (after, limit.saturating_sub(items.len())), until).await?;
        items.extend(found.items.iter().map(|record| json!(record)));
        next = found.next.map(|after| (names, &whole, after));
        if next.is_some() {
            break;
        }
        after = 0;
    }
    Ok(Answer::ok(part("items", items, next)))
}

fn wanted(values: &Values) -> Searching {
    let text = |name: &str| values.text(name).map(str::to_owned);
    Searching {
        call_id: text("call_id"),
        function: text("function"),
        outcome: text("outcome"),
        action: text("action"),
        by: text("by"),
        since: values.moment("since"),
        before: values.moment("before"),
        limit: None,
    }
}
