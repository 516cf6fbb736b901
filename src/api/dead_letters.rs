//! Dead letters: lists them, sums them up, shows one.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Answer,
    cursor::{Cursor, List},
    problem::Problem,
    request::Asked,
    values::Values,
};
use crate::{
    message::{
        letter::{content::MASK, groups::Groups},
        names::{self, Names},
    },
    operate::{
        dead_letters::{
            item::Item,
            list::sums,
            read::{Letters, Part},
            show::open,
        },
        desk::Desk,
    },
};

/// The longest time that a part of a list is looked for.
pub(super) const LOOK: Duration = Duration::from_secs(3);
/// So many of a list, unless a request says how many.
const LIMIT: u64 = 100;

/// How many of a list, and behind which sequence.
pub(super) fn place(values: &Values, names: &Names, list: &List) -> Result<(usize, u64), Problem> {
    let limit = usize::try_from(values.number("limit").unwrap_or(LIMIT)).unwrap_or(usize::MAX);
    let queue = std::slice::from_ref(names);
    let cursor = values.text("cursor").map(|text| Cursor::read(list, queue, text)).transpose()?;
    Ok((limit, cursor.map_or(0, |cursor| cursor.after)))
}

/// A part of a list.
pub(super) fn part(key: &str, items: Vec<Value>, next: Option<(&Names, &List, u64)>) -> Value {
    let more = next.is_some();
    let next = next.map(|(names, list, after)| Cursor { queue: names.queue.clone(), after }.written(list));
    json!({ key: items, "more": more, "next": next })
}

/// Lists them, or sums them up.
pub(super) async fn list(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let (names, choice) = (desk.queue()?, asked.values.choice(desk.now()));
    let whole = List::new("dead-letters", &asked.values);
    let (limit, after) = place(&asked.values, &names, &whole)?;
    let key = if asked.values.flag("group") { "groups" } else { "items" };
    let answer =
        |items, next: Option<u64>| Answer::ok(part(key, items, next.map(|after| (&names, &whole, after))));
    let Some(letters) = Letters::open(&desk, &names, &choice, after).await? else {
        return Ok(answer(Vec::new(), None));
    };
    let until = Instant::now() + LOOK;
    if key == "groups" {
        let mut groups = Groups::default();
        let next = letters.each(until, |letter| {
            groups.add(&letter);
            true
        });
        let next = next.await?;
        return Ok(answer(sums(&groups.largest_first()), next));
    }
    let Part { items, next } = letters.part(limit, until).await?;
    Ok(answer(items.iter().map(|letter| json!(Item::of(&names.queue, letter))).collect(), next))
}

/// Shows one.
pub(super) async fn show(desk: Desk, asked: Asked) -> Result<Answer, Problem> {
    let names = desk.queue()?;
    let sequence = asked.values.number("sequence").unwrap_or_default();
    let opened = open(&desk, &names, sequence, asked.values.flag("reveal")).await?;
    let whole = json!(opened.whole(&names.queue));
    Ok(Answer::ok(if asked.trusted { whole } else { masked(whole) }))
}

/// The same without what callers sent: anybody may ask.
fn masked(mut whole: Value) -> Value {
    let Value::Object(fields) = &mut whole else { return whole };
    for name in ["body", "bodyEncoding", "path"] {
        fields.insert(name.to_owned(), Value::Null);
    }
    for name in ["query", "callbackUrl"] {
        if fields.get(name).is_some_and(|value| !value.is_null()) {
            fields.insert(name.to_owned(), MASK.into());
        }
    }
    for name in ["headers", "letterHeaders"] {
        if let Some(Value::Object(headers)) = fields.get_mut(name) {
            mask(headers, name == "letterHeaders");
        }
    }
    whole
}

/// The headers of a letter that tell its story, in words that no producer chose but function and call id.
const STORY: [&str; 23] = [
    names::HOP,
    names::ATTEMPTS,
    names::DELAYED,
    names::DUE,
    names::PARKED_AT,
    names::ORIGINAL_ID,
    names::FIRST_SEEN,
    names::CALL_ID,
    names::FUNCTION,
    names::LAST_STATUS,
    names::LAST_ERROR,
    names::HISTORY,
    names::ATTEMPT_TIMES,
    names::INTERRUPTIONS,
    names::NOT_FOUND,
    names::KIND,
    names::ENCODING,
    names::REDRIVES,
    names::CANCELLED,
    names::REDRIVEN_AT,
    names::NOT_BEFORE,
    names::CAUSE,
    names::FAILED_AT,
];

/// Masks the values of headers, but not of those that tell a letter's own story.
fn mask(headers: &mut Map<String, Value>, own: bool) {
    for (name, values) in headers {
        let plain = own && STORY.iter().any(|known| name.eq_ignore_ascii_case(known));
        if !plain && let Value::Array(values) = values {
            values.iter_mut().for_each(|value| *value = MASK.into());
        }
    }
}
