//! Shows one dead letter: its story, its attempts, and what is in it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{item::Item, read::no_stream};
use crate::{
    broker::jetstream::{Stored, if_stream},
    message::{
        envelope::Envelope,
        letter::{
            Attempt, Letter, Place,
            content::{Body, Content, content, of_message},
        },
        names::Names,
    },
    operate::{
        cli::Output,
        desk::Desk,
        end::{Failure, cannot},
        out::{self, Table, or_dash, shown, size, time},
    },
};

/// A letter with everything that is known of it, as JSON has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Whole<'l> {
    #[serde(flatten)]
    item: Item<'l>,
    /// The headers of the call, or of the answer that its callback takes along.
    headers: Value,
    history: &'l [Attempt],
    body: Option<&'l str>,
    /// How the body is written: `text` or `base64`; absent where it is withheld.
    body_encoding: Option<&'static str>,
    path: Option<&'l str>,
    query: Option<&'l str>,
    callback_url: Option<&'l str>,
    /// Why no call can be made of it.
    flaw: Option<&'l str>,
    /// The letter's own headers in NATS.
    letter_headers: Value,
}

/// A letter and its inside.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The letter.
    pub letter: Letter,
    content: Content,
    own: Vec<(String, Vec<String>)>,
}

impl Opened {
    /// Opens what is stored. Secrets are masked unless `reveal`.
    pub fn of(names: &Names, stored: &Stored, reveal: bool) -> Self {
        let headers = stored.headers();
        let place = Place {
            stream: &names.dead,
            subject: &stored.subject,
            sequence: stored.sequence,
            stored: stored.time,
            bytes: stored.payload.len() as u64,
        };
        let told = Envelope::told(&names.dead, stored.sequence, stored.time, &headers);
        Self {
            letter: Letter::read(place, &headers),
            content: content(&told, &stored.payload, reveal),
            own: of_message(&headers, reveal),
        }
    }

    /// As JSON has it.
    pub fn whole<'l>(&'l self, queue: &'l str) -> Whole<'l> {
        let content = &self.content;
        let (body, body_encoding) = match &content.body {
            Some(Body::Text(text)) => (Some(text.as_str()), Some("text")),
            Some(Body::Base64(text, _)) => (Some(text.as_str()), Some("base64")),
            None => (None, None),
        };
        Whole {
            item: Item::of(queue, &self.letter),
            headers: object(&content.headers),
            history: &self.letter.history,
            body,
            body_encoding,
            path: content.path.as_deref(),
            query: content.query.as_deref(),
            callback_url: content.callback_url.as_deref(),
            flaw: content.flaw.as_deref(),
            letter_headers: object(&self.own),
        }
    }

    fn text(&self, queue: &str) -> String {
        let (letter, content) = (&self.letter, &self.content);
        let status = letter.last_status.as_ref().map(|status| status.text().into_owned());
        let facts = [
            ("sequence", Some(letter.sequence.to_string())),
            ("queue", Some(queue.to_owned())),
            ("function", letter.function.clone()),
            ("call id", letter.call_id.clone()),
            (
                "kind",
                letter.is_callback.then(|| "callback: the call ended, its answer did not arrive".to_owned()),
            ),
            ("cause", letter.cause.clone()),
            ("last status", status),
            ("last error", letter.last_error.clone()),
            ("flaw", content.flaw.clone()),
            ("attempts", Some(letter.attempts.to_string())),
            ("redrives", letter.redrives.clone()),
            ("first seen", Some(time(letter.first_seen))),
            ("failed", Some(time(letter.failed_at))),
            ("original id", Some(letter.original_id.clone())),
            ("path", content.path.clone()),
            ("query", content.query.clone()),
            ("callback", content.callback_url.clone()),
        ];
        let facts =
            facts.into_iter().filter_map(|(name, fact)| Some(format!("{name:12}  {}\n", shown(&fact?))));
        let mut text: String = facts.collect();
        if !letter.history.is_empty() {
            let rows: Vec<_> = letter.history.iter().map(row).collect();
            let rows = Table::new(&["ATTEMPT", "STATUS", "TOOK", "WORKER"]).rows(&rows);
            text.push_str(&format!("\n{rows}"));
        }
        if !content.headers.is_empty() {
            let lines = content.headers.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| format!("{}: {}\n", shown(name), shown(value)))
            });
            text.push_str(&format!("\n{}", lines.collect::<String>()));
        }
        text.push_str(&format!("\n{}\n", self.body()));
        text
    }

    /// The body where it is text, else what it is.
    fn body(&self) -> String {
        let is_type = |(name, _): &&(String, Vec<String>)| name.eq_ignore_ascii_case("content-type");
        let kind = self.content.headers.iter().find(is_type).and_then(|(_, values)| values.first());
        match &self.content.body {
            Some(Body::Text(text)) if text.is_empty() => "(no body)".to_owned(),
            Some(Body::Text(text)) => {
                text.split('\n').map(|line| shown(line).replace("\\t", "\t")).collect::<Vec<_>>().join("\n")
            }
            Some(Body::Base64(_, bytes)) => format!(
                "(a body of {} that is no text, {}: --output json has it in base64)",
                size(*bytes as u64),
                shown(&or_dash(kind.map(String::as_str)).replace('-', "without a type"))
            ),
            None => "(a payload that may hold secrets: --reveal shows it)".to_owned(),
        }
    }
}

fn row(attempt: &Attempt) -> Vec<String> {
    let took = crate::text::duration::shown(std::time::Duration::from_millis(attempt.milliseconds));
    vec![attempt.n.to_string(), attempt.status.text().into_owned(), took, attempt.worker.clone()]
}

/// Headers as an object of lists.
fn object(headers: &[(String, Vec<String>)]) -> Value {
    let mut object = Map::new();
    for (name, values) in headers {
        if let Some(Value::Array(all)) = object.get_mut(name) {
            all.extend(values.iter().map(|value| json!(value)));
        } else {
            object.insert(name.clone(), json!(values));
        }
    }
    Value::Object(object)
}

/// Shows the letter of this sequence.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn show(desk: &Desk, sequence: u64, reveal: bool) -> Result<(), Failure> {
    let names = desk.queue()?;
    if desk.stream(&names.dead).await?.is_none() {
        return Err(no_stream(&names));
    }
    let opened = open(desk, &names, sequence, reveal).await?;
    match desk.output {
        Output::Json => out::json(&opened.whole(&names.queue)),
        Output::Table => {
            out::print(&opened.text(&names.queue));
            Ok(())
        }
    }
}

/// Opens the letter of this sequence.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn open(desk: &Desk, names: &Names, sequence: u64, reveal: bool) -> Result<Opened, Failure> {
    let stored = if_stream(desk.jetstream.stored(&names.dead, sequence).await).map_err(cannot)?.flatten();
    let none = || Failure::Nothing(format!("there is no dead letter {sequence} of {}", names.queue));
    Ok(Opened::of(names, &stored.ok_or_else(none)?, reveal))
}
