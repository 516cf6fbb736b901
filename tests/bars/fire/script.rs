//! What each message is to meet, by its number: how the gateway and the receiver of callbacks answer.

use std::time::Duration;

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
