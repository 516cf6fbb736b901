//! Writes and reads the headers of NATS messages. Nothing else in the program writes one.
//!
//! Callers, functions and operators choose much of the text in them, and the client of NATS panics on a line
//! break in a value. A message that makes its worker panic is never done, so the client's own ways to set a
//! header are refused by clippy (`.clippy.toml`).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is written here is checked here"
)]

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::{message::names::is_brokers, text::line::one_line};

/// Sets a header, in place of all that have its name. Control characters of the value become spaces.
pub fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = if value.contains(char::is_control) { one_line(value).collect() } else { value.to_owned() };
    headers.insert(name, HeaderValue::from(value));
}

/// The headers of a message, less the broker's own.
pub fn own(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !is_brokers(AsRef::<str>::as_ref(*name))) {
        values.iter().for_each(|value| copy(&mut kept, name, value));
    }
    kept
}

/// Adds a header that another message had.
pub fn copy(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    headers.append(name.clone(), value.clone());
}

/// Adds a header that was read somewhere, unless it cannot be one.
pub fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        headers.append(name, value);
    }
}

/// The first value of a header that says something. Its name matches in any case: people write headers by
/// hand, too.
pub fn said<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    values(headers, name).map(str::trim).find(|value| !value.is_empty())
}

/// All values of a header, whose name matches in any case.
pub fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let named =
        headers.iter().filter(move |(other, _)| AsRef::<str>::as_ref(*other).eq_ignore_ascii_case(name));
    named.flat_map(|(_, values)| values.iter().map(HeaderValue::as_str))
}

/// The bytes of the headers on the wire.
pub fn size(headers: &HeaderMap) -> usize {
    let bytes = |(name, values): (&HeaderName, &Vec<HeaderValue>)| -> usize {
        let name: &str = name.as_ref();
        values.iter().map(|value| name.len() + value.as_str().len() + 4).sum()
    };
    headers.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests;
