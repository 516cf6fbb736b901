//! What each message is to meet, by its number: how the gateway and the receiver of callbacks answer.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::{
    ledger::{Came, Fate},
    support::{Answer, Call, End, Invocation},
};

/// How the gateway answers just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As the message's fate has it.
    Well,
    /// Half a body, and a reset.
    TornBody,
    /// Half a head, and a reset.
    TornHead,
    /// It closes the connection.
    HangsUp,
    /// Never.
    Silent,
}

/// How long a call takes by its message's number.
pub type Pace = fn(usize) -> Duration;

/// What becomes of the message of this number.
pub fn fate(number: usize) -> Fate {
    [Fate::After(0), Fate::Exhausted, Fate::After(1), Fate::Refused, Fate::After(0), Fate::After(3)]
        [number % 6]
}

/// Its number is prime to that of the fates: callbacks are wanted of all of them.
pub fn wants_callback(number: usize) -> bool {
    number.is_multiple_of(7)
}

pub fn number(call: &Call) -> usize {
    call.id()
        .strip_prefix("call-")
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("whose call is {call:?}"))
}

pub fn answer(call: &Call, mood: Mood, pace: Pace) -> Answer {
    let (number, whole) = (number(call), Answer::ok().body(vec![b'x'; 4_096]));
    let answer = match (mood, fate(number)) {
        (Mood::TornBody, _) => whole.torn_after(2_048),
        (Mood::TornHead, _) => whole.torn_after(12),
        (Mood::HangsUp, _) => Answer::hang_up(),
        (Mood::Silent, _) => Answer::silence(),
        (Mood::Well, Fate::Refused) => Answer::status(400),
        (Mood::Well, _) if succeeds(call) => whole,
        (Mood::Well, _) => Answer::status(500),
    };
    answer.after(pace(number))
}

/// Whether the call is one that completes its message.
pub fn succeeds(call: &Call) -> bool {
    matches!(fate(number(call)), Fate::After(tries) if call.retry() >= tries)
}

pub fn came(call: &Call) -> Came {
    match call.fate() {
        Some(End::Answered) if succeeds(call) => Came::Success,
        Some(End::Answered) => Came::Failure,
        _ => Came::Nothing,
    }
}

/// Every third callback is refused the first time.
pub fn takes_callback(call: &Call) -> bool {
    call.nth > 1 || !number(call).is_multiple_of(3)
}

/// Each worker calls by a path of its own, which tells whose call it is.
pub fn worker(call: &Call) -> usize {
    let rest = call.target().strip_prefix("/worker-").unwrap_or_default();
    rest.split('/')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("who made {call:?}"))
}

/// The message of this number.
pub fn invocation(number: usize, callbacks: &str) -> Invocation {
    let mut invocation = Invocation::of("f").call_id(&format!("call-{number}"));
    if fate(number) == Fate::Exhausted {
        invocation = invocation.retry_annotation("attempts", "4");
    }
    if wants_callback(number) {
        invocation = invocation.callback(callbacks);
    }
    invocation
}

/// The form of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    OpenFaas,
    Http,
    CloudEvents,
}

impl Input {
    /// What becomes of the message of this number. Only a function says how often it is to be tried.
    pub fn fate(self, number: usize) -> Fate {
        match fate(number) {
            Fate::Exhausted if self != Self::OpenFaas => Fate::Refused,
            fate => fate,
        }
    }

    /// How the target answers. What did not come as it was published ends as nobody expects.
    pub fn answer(self, call: &Call, mood: Mood, pace: Pace) -> Answer {
        let number = number(call);
        let expected = match self {
            Self::OpenFaas => return answer(call, mood, pace),
            Self::Http => None,
            Self::CloudEvents => Some(event_id(number)),
        };
        let whole =
            *call.request.body == *body(number).as_bytes() && call.header("ce-id") == expected.as_deref();
        match (self.fate(number), whole) {
            (Fate::Refused, true) => Answer::status(400).after(pace(number)),
            (Fate::After(_), true) => answer(call, mood, pace),
            (_, false) | (Fate::Exhausted, true) => {
                if matches!(fate(number), Fate::After(_)) {
                    Answer::status(400)
                } else {
                    Answer::ok()
                }
            }
        }
    }

    /// The message of this number, as it is published.
    pub fn published(self, number: usize, invocation: &Invocation, callbacks: &str) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        if self == Self::OpenFaas {
            return (headers, invocation.to_bytes().into());
        }
        headers.insert("X-Call-Id", format!("call-{number}"));
        if wants_callback(number) {
            headers.insert("X-Callback-Url", callbacks);
        }
        let (body, id) = (body(number), event_id(number));
        if self == Self::Http {
            return (headers, body.into());
        }
        if number.is_multiple_of(2) {
            let attributes = [("id", &*id), ("source", "/bars"), ("type", "bar"), ("specversion", "1.0")];
            attributes.iter().for_each(|(name, value)| headers.insert(format!("ce-{name}"), *value));
            headers.insert("Content-Type", "application/json");
            return (headers, body.into());
        }
        headers.insert("Content-Type", "application/cloudevents+json");
        let event =
            format!(r#"{{"specversion":"1.0","id":"{id}","source":"/bars","type":"bar","data":{body}}}"#);
        (headers, event.into())
    }
}

fn body(number: usize) -> String {
    format!(r#"{{"number":{number}}}"#)
}

fn event_id(number: usize) -> String {
    format!("event-{number}")
}
