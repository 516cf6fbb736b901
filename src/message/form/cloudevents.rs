//! CloudEvents: messages in the NATS binding's two modes (its version 1.0.3), as calls in the binary mode of
//! the HTTP binding (1.0.2).
//!
//! A message is an event in structured mode if its `Content-Type` says so, or if it has no header of an
//! event: NATS had no headers when the binding's first version was written. Else it is one in binary mode.

mod attribute;
mod structured;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::attribute::{Attribute, encoded};
use super::raw::{Content, NoContent};
use crate::message::decode::{EventName, Headers};

/// What headers of events begin with.
const PREFIX: &str = "ce-";
/// The media type of events, with a format of theirs behind it.
const MEDIA_TYPE: &str = "application/cloudevents";
/// The one version that is understood.
const VERSION: &str = "1.0";

/// An event, its attributes in the order of their names.
#[derive(Debug, Default)]
struct Event {
    attributes: Vec<Attribute>,
    content_type: Option<String>,
    data: Bytes,
}

/// The content of a call that sends the event on which is in a message.
///
/// # Errors
/// What the specification does not allow.
pub(super) fn content(headers: Headers, payload: Bytes) -> Result<Content, NoContent> {
    let declared = headers.usable("Content-Type").unwrap_or_default().to_ascii_lowercase();
    let of_event = headers.only(is_of_event);
    let mut event = Event::default();
    let mode = mode(&declared, &of_event);
    let read = match mode {
        Ok(Mode::Structured) => structured::read(&payload, &mut event),
        Ok(Mode::Binary) => binary(&of_event, &mut event),
        Err(reason) => Err(reason.to_owned()),
    };
    let read = read.and_then(|()| event.check());
    let name = EventName { id: event.of("id"), source: event.of("source") };
    if let Err(reason) = read {
        return Err(NoContent { reason, event: Some(name) });
    }
    if mode == Ok(Mode::Binary) {
        event.data = payload;
    }
    let is_type = |name: &str| name.eq_ignore_ascii_case("Content-Type");
    // Of an event in binary mode it may be the type of the data: older producers put it there.
    let replaced = mode == Ok(Mode::Structured) || event.content_type.is_some();
    let mut headers = headers.only(|name| !(is_of_event(name) || replaced && is_type(name)));
    event.content_type.iter().for_each(|media_type| headers.push("Content-Type", media_type));
    for (name, value) in &event.attributes {
        headers.push(&format!("{PREFIX}{name}"), &encoded(value));
    }
    Ok(Content { headers, body: event.data, event: Some(name) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Structured,
    Binary,
}

fn mode(declared: &str, of_event: &Headers) -> Result<Mode, &'static str> {
    let Some(format) = declared.strip_prefix(MEDIA_TYPE) else {
        return Ok(if of_event.is_empty() { Mode::Structured } else { Mode::Binary });
    };
    let format = format.split(';').next().unwrap_or_default().trim();
    match format {
        "" | "+json" => Ok(Mode::Structured),
        _ if format.starts_with("-batch") => {
            Err("it is a batch of events, and only one at a time is sent by NATS")
        }
        _ => Err("the event is in a format that is not JSON"),
    }
}

fn is_of_event(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Reads the headers of an event in binary mode.
fn binary(headers: &Headers, event: &mut Event) -> Result<(), String> {
    for (name, mut values) in headers.iter() {
        let name = name.get(PREFIX.len()..).unwrap_or_default().to_ascii_lowercase();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(format!("{} stands there more than once", attribute::shown(&name)));
        };
        let value = attribute::decoded(value)
            .ok_or_else(|| format!("{} is no percent-encoded UTF-8", attribute::shown(&name)))?;
        event.add(&name, value)?;
    }
    Ok(())
}

impl Event {
    /// Adds an attribute.
    fn add(&mut self, name: &str, value: String) -> Result<(), String> {
        if !attribute::is_name(name) {
            return Err("an attribute's name has other characters than a-z and 0-9".to_owned());
        }
        if self.of(name).is_some() {
            return Err(format!("{} stands there more than once", attribute::shown(name)));
        }
        match name {
            "datacontenttype" => self.content_type = Some(value),
            _ => self.attributes.push((name.to_owned(), value)),
        }
        Ok(())
    }

    fn of(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    /// Whether all is there that an event has to have.
    fn check(&mut self) -> Result<(), String> {
        for name in ["specversion", "id", "source", "type"] {
            if self.of(name).is_none_or(|value| value.is_empty()) {
                return Err(format!("the event has no {name}"));
            }
        }
        if self.of("specversion").is_none_or(|version| version != VERSION) {
            return Err(format!("the event's specversion is not {VERSION}"));
        }
        if self.of("time").is_some_and(|time| !attribute::is_time(&time)) {
            return Err("the event's time is no time of RFC 3339".to_owned());
        }
        self.attributes.sort();
        Ok(())
    }
}
