//! What strangers write into messages, and what may be damaged in those that workers wrote.

use async_nats::{HeaderMap, HeaderName};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use queue_worker::message::{names, record::Record};
use rand::{Rng, RngExt, SeedableRng};

use crate::plan::{Dice, Input, Message, Plan, one_of};

/// What may stand in the headers of what is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    None,
    /// Ours and the broker's, with values that say something else than what is.
    Lies,
    /// So many of some other's, each of 64 bytes.
    Many(usize),
}

/// Ours say nothing in the queue, and the broker's must not come to a message of a worker's.
const LIES: [(&str, &str); 22] = [
    (names::HOP, "9"),
    ("queue-worker-attempts", "4"),
    (names::ATTEMPTS, "99"),
    (names::DELAYED, "4294967295"),
    (names::DUE, "2999-01-01T00:00:00Z"),
    (names::ORIGINAL_ID, "q0:1-1"),
    (names::FIRST_SEEN, "1970-01-01T00:00:00Z"),
    (names::CALL_ID, "another"),
    (names::HISTORY, "1:500:1:x,,,2:200"),
    (names::INTERRUPTIONS, "5"),
    (names::NOT_FOUND, "1:1970-01-01T00:00:00Z"),
    (names::KIND, "callback"),
    (names::ENCODING, "gzip"),
    (names::REDRIVES, "7"),
    (names::CAUSE, "refused"),
    ("Nats-Schedule", "@at 2999-01-01T00:00:00Z"),
    ("Nats-Schedule-Target", "q0"),
    ("NATS-Rollup", "all"),
    ("nats-ttl", "1s"),
    ("Nats-Expected-Last-Sequence", "9"),
    ("X-Odd", "\u{1}\u{7f}\t\u{e4}"),
    ("X-Empty", ""),
];

/// What a damaged header of ours may say. A due time that is far away is no damage that anybody could see.
const DAMAGE: [&str; 9] = ["", "x", "-1", "0", "7", "\u{1}\u{7f}", "18446744073709551615", "q0:9-", "1:2:3"];
/// What is damaged. The call id is what the books know a message by.
const DAMAGED: [&str; 12] = [
    names::HOP,
    names::ATTEMPTS,
    names::DELAYED,
    names::DUE,
    names::ORIGINAL_ID,
    names::FIRST_SEEN,
    names::LAST_STATUS,
    names::HISTORY,
    names::INTERRUPTIONS,
    names::NOT_FOUND,
    names::KIND,
    names::ENCODING,
];

impl Headers {
    pub fn map(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::None => {}
            Self::Lies => LIES.iter().for_each(|(name, value)| headers.append(*name, *value)),
            Self::Many(number) => {
                (0..number).for_each(|n| headers.append(format!("X-{n:04}"), "v".repeat(54)))
            }
        }
        headers
    }
}

/// The headers of a message. Where they are a part of the call they say what else its payload does.
pub fn headers(key: &str, message: &Message, input: Input) -> HeaderMap {
    let mut headers = message.headers.map();
    if input == Input::OpenFaas {
        return headers;
    }
    headers.insert("X-Call-Id", key);
    if message.callback.is_some() {
        headers.insert("X-Callback-Url", "http://h/");
    }
    if input == Input::CloudEvents && !message.script.is_empty() && is_binary(message) {
        let attributes = [("id", key), ("source", "/sim"), ("type", "t"), ("specversion", "1.0")];
        attributes.iter().for_each(|(name, value)| headers.insert(format!("ce-{name}"), *value));
    }
    headers
}

/// Whether an event is in binary mode.
fn is_binary(message: &Message) -> bool {
    message.at.as_millis().is_multiple_of(2)
}

/// The payload of a message, with `pad` bytes more than it needs: of a body in base64, or of noise where it
/// is no invocation.
pub fn payload(key: &str, message: &Message, plan: &Plan, pad: usize) -> Bytes {
    let mut noise = vec![0; pad + 8];
    Dice::seed_from_u64(message.at.as_millis() as u64).fill_bytes(&mut noise);
    if message.script.is_empty() {
        return [format!("{key} is no invocation").as_bytes(), &noise[..pad]].concat().into();
    }
    // As long as what four characters each make of it.
    let body =
        if pad == 0 { "aGVsbG8=".to_owned() } else { BASE64_STANDARD.encode(&noise[..(pad + 8) / 4 * 3]) };
    match plan.input {
        Input::OpenFaas => {
            let url = if message.callback.is_some() {
                r#","CallbackUrl":{"Scheme":"http","Host":"h","Path":"/"}"#
            } else {
                ""
            };
            let function = plan.function;
            format!(r#"{{"Header":{{"X-Call-Id":["{key}"]}},"Function":"{function}","Body":"{body}"{url}}}"#)
        }
        Input::CloudEvents if !is_binary(message) => {
            format!(r#"{{"specversion":"1.0","id":"{key}","source":"/sim","type":"t","data":"{body}"}}"#)
        }
        Input::Http | Input::CloudEvents => format!("{key} {body}"),
    }
    .into()
}

/// A record of the retries with one header of ours damaged, so many times in a thousand.
pub fn damaged(record: &Record, often: u32, dice: &mut Dice) -> Option<Record> {
    if often == 0 || !record.stream.ends_with("-retries") || !dice.random_ratio(often, 1000) {
        return None;
    }
    let mut record = record.clone();
    let (which, value) = (one_of(dice, &DAMAGED), one_of(dice, &DAMAGE));
    let gone = dice.random_ratio(1, 4) || value.is_empty();
    // What says nothing of its kind is an invocation: nobody can see that a callback was one.
    let (gone, value) = if which == names::KIND && gone { (false, "x") } else { (gone, value) };
    let which = HeaderName::from_static(which);
    let mut headers = HeaderMap::new();
    for (name, values) in record.headers.iter().filter(|(name, _)| **name != which) {
        values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
    }
    if !gone {
        headers.insert(which, value);
    }
    record.headers = headers;
    Some(record)
}
