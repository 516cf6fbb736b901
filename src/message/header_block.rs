//! Header blocks, read just as the client library reads them. A block that the library refuses costs it the
//! connection, or its life: [`read`] says beforehand what it would do, without either. Names, values and
//! status codes are read by the library's own types. Pure.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "what is read here is checked here")]

use std::{fmt, str::FromStr};

use async_nats::{HeaderMap, HeaderValue, StatusCode, header::HeaderName};

use crate::message::header;

/// What a header block begins with.
const VERSION: &str = "NATS/1.0";

/// Why the client library cannot read a message. Nothing is quoted: headers may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The block is no UTF-8, from this byte on.
    NoText(usize),
    /// The first line is not the version.
    Version,
    /// The version is followed by something else than a status.
    Status,
    /// This line has no colon.
    Colon(usize),
    /// The name in this line has blanks, or characters that are not printable ASCII.
    Name(usize),
    /// The value in this line has a line break.
    Value(usize),
    /// The subject has characters that the library takes for the end of a word.
    Subject,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoText(at) => write!(f, "the headers are no UTF-8 at byte {at}"),
            Self::Version => write!(f, "the headers do not begin with {VERSION}"),
            Self::Status => write!(f, "what follows {VERSION} in the first line of the headers is no status"),
            Self::Colon(line) => write!(f, "line {line} of the headers has no colon"),
            Self::Name(line) => {
                write!(f, "the name in line {line} of the headers has blanks or is no printable ASCII")
            }
            Self::Value(line) => {
                write!(f, "the value in line {line} of the headers has a carriage return in it")
            }
            Self::Subject => write!(f, "the subject has blanks or is no UTF-8"),
        }
    }
}

/// Reads a header block.
///
/// # Errors
/// The first [`Flaw`] for which the client library refuses it.
pub fn read(block: &[u8]) -> Result<HeaderMap, Flaw> {
    let text = str::from_utf8(block).map_err(|error| Flaw::NoText(error.valid_up_to()))?;
    let suffix = text.lines().next().and_then(|line| line.strip_prefix(VERSION)).ok_or(Flaw::Version)?.trim();
    let status = suffix.split_once(' ').map_or(suffix, |(status, _)| status.trim());
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return Err(Flaw::Status);
    }
    let mut headers = HeaderMap::new();
    for field in fields(text) {
        let (name, value) = field?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The readable part of a header block: of one without a flaw, all.
pub fn readable(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields(&String::from_utf8_lossy(block)).flatten() {
        headers.append(name, value);
    }
    headers
}

/// The readable part of a header block, less the broker's own headers.
pub fn own(block: &[u8]) -> HeaderMap {
    header::own(&readable(block))
}

/// The value of a header, found just as a server looks for it: the client library may not be able to
/// read the block at all.
pub(crate) fn as_servers_find(block: &[u8], name: &str) -> Option<String> {
    let sought = format!("\r\n{name}:");
    let at = block.windows(sought.len()).position(|bytes| bytes == sought.as_bytes())?;
    let value = block.get(at + sought.len()..)?.split(|byte| *byte == b'\r').next()?;
    Some(String::from_utf8_lossy(value).trim().to_owned())
}

/// Whether the library can read a message on this subject, with headers or without. It takes all of Unicode's
/// blanks for the end of a word, where the server takes a few; and what is no UTF-8 was replaced where the
/// server put it into JSON.
pub fn subject(subject: &str, has_headers: bool) -> Result<(), Flaw> {
    let blank = |c: char| has_headers && c.is_whitespace();
    if subject.contains(|c| c == char::REPLACEMENT_CHARACTER || blank(c)) {
        Err(Flaw::Subject)
    } else {
        Ok(())
    }
}

/// The lines behind the first one. A line that begins with a blank goes on with the value before it.
fn fields(text: &str) -> impl Iterator<Item = Result<(HeaderName, HeaderValue), Flaw>> {
    let mut lines = (1..).zip(text.lines()).skip(1).peekable();
    std::iter::from_fn(move || {
        let (number, line) = lines.find(|(_, line)| !line.is_empty())?;
        let Some((name, value)) = line.split_once(':') else { return Some(Err(Flaw::Colon(number))) };
        let Ok(name) = HeaderName::from_str(name) else { return Some(Err(Flaw::Name(number))) };
        let mut value = value.trim_start().to_owned();
        while let Some((_, more)) = lines.next_if(|(_, line)| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        Some(
            HeaderValue::from_str(value.trim_end())
                .map(|value| (name, value))
                .map_err(|_| Flaw::Value(number)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_without_a_flaw_is_read_with_its_folded_lines() {
        let block = b"NATS/1.0 503 No Responders\r\nX: a: b\r\nX:c\r\n\r\n:empty\nFolded: d \r\n  e\r\n\tf \
            \r\r\n\r\n";
        let headers = read(block).unwrap();
        let all =
            |name: &str| headers.get_all(name).map(|value| value.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (all("X"), all(""), all("Folded")),
            (vec!["a: b".into(), "c".into()], vec!["empty".into()], vec!["d   e\tf".into()])
        );
        assert_eq!(readable(block), headers);
        assert!(read(b"NATS/1.0").unwrap().is_empty());
    }

    #[test]
    fn a_flaw_is_named_with_its_line() {
        let flaws: [(&[u8], Flaw); 15] = [
            (b"", Flaw::Version),
            (b"\r\n\r\n", Flaw::Version),
            (b"X: a\r\n\r\n", Flaw::Version),
            (b"nats/1.0\r\n\r\n", Flaw::Version),
            (b"NATS/1.0 20\r\n\r\n", Flaw::Status),
            (b"NATS/1.01\r\n\r\n", Flaw::Status),
            (b"NATS/1.0 \r x\r\n\r\n", Flaw::Status),
            (b"NATS/1.0\r\nX: a\xff\r\n\r\n", Flaw::NoText(14)),
            (b"NATS/1.0\r\nX: a\r\nno colon\r\n\r\n", Flaw::Colon(3)),
            (b"NATS/1.0\r\n\0\r\n\r\n", Flaw::Colon(2)),
            (b"NATS/1.0\r\nX : a\r\n\r\n", Flaw::Name(2)),
            (b"NATS/1.0\r\n folded: nothing\r\n\r\n", Flaw::Name(2)),
            ("NATS/1.0\r\nÄ: a\r\n\r\n".as_bytes(), Flaw::Name(2)),
            (b"NATS/1.0\r\nX: a\rb\r\n\r\n", Flaw::Value(2)),
            (b"NATS/1.0\r\nX: a\r\n \rb\r\n c\r\n\r\n", Flaw::Value(2)),
        ];
        for (block, flaw) in flaws {
            assert_eq!(read(block), Err(flaw), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn what_can_be_read_of_a_flawed_block_is_read() {
        let headers = readable(
            b"NATS/1.0\r\nX: a\rb\r\nno colon\r\nQueue-Worker-Hop: 2\r\nY: \xff\r\nZ\xff: z\r\n\r\n",
        );
        let names: Vec<_> = headers.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(
            (headers.get("Queue-Worker-Hop").unwrap().as_str(), headers.get("Y").unwrap().as_str()),
            ("2", "\u{fffd}")
        );
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_block_is_read_without_the_brokers_own() {
        let headers =
            own(b"NATS/1.0\r\nNats-Schedule: @at x\r\nQueue-Worker-Hop: 2\r\nX: a: b\r\nX: c\r\n\r\n");
        assert_eq!(headers.get("Queue-Worker-Hop").unwrap().as_str(), "2");
        assert_eq!(headers.get_all("X").map(|value| value.as_str()).collect::<Vec<_>>(), ["a: b", "c"]);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_header_is_found_as_a_server_finds_it_whatever_else_is_in_the_block() {
        for (block, value) in [
            (b"NATS/1.0\r\nX: \rY\xff\r\nNats-Schedule: @at x \r\n\r\n".as_slice(), Some("@at x")),
            (b"NATS/1.0\r\nNats-Schedule:@at x", Some("@at x")),
            (b"NATS/1.0\r\nnats-schedule: @at x\r\n\r\n", None),
            (b"NATS/1.0\r\nX-Nats-Schedule: @at x\r\n\r\n", None),
        ] {
            assert_eq!(as_servers_find(block, "Nats-Schedule").as_deref(), value, "{}", block.escape_ascii());
        }
    }

    #[test]
    fn blanks_that_the_server_takes_for_letters_spoil_a_subject() {
        for (text, has_headers, fine) in [
            ("q", true, true),
            ("q.f\u{a0}g", true, false),
            ("q.f\u{a0}g", false, true),
            ("q.f\u{b}", true, false),
            ("q.\u{fffd}", false, false),
            ("q.ä", true, true),
        ] {
            assert_eq!(subject(text, has_headers).is_ok(), fine, "{text:?} {has_headers}");
        }
    }
}
