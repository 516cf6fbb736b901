//! What is sent round, and what is said to it: headers of all kinds, and a reason to be parked of every kind.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::json;

use super::super::script::{fate, number, succeeds, wants_callback};
use crate::{
    ledger::Fate,
    support::{Answer, Call, Invocation},
};

/// What the broker of the tests takes as one message.
const MAX_PAYLOAD: usize = 1 << 20;
/// So much less than that is sent in the largest messages: room for the headers of who publishes them, and
/// for none of a worker's.
const SPARE: usize = 200;

/// How an attempt fails. A worker cannot tell a torn answer from one that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Status(u16, Option<(&'static str, &'static str)>),
    NotFound,
    Torn,
}

impl Failure {
    /// The status that the worker learns, if it learns one.
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status, _) => Some(status),
            Self::NotFound => Some(404),
            Self::Torn => None,
        }
    }
}

const FAILURES: [Failure; 8] = [
    Failure::Status(500, None),
    Failure::Status(429, Some(("Retry-After", "1"))),
    Failure::NotFound,
    Failure::Status(503, Some(("Retry-After", "1"))),
    Failure::Torn,
    Failure::Status(502, None),
    Failure::Status(503, Some(("X-OpenFaaS-Internal", "faas-netes"))),
    Failure::Status(504, None),
];

/// How this attempt of the message fails.
pub fn failure(number: usize, retry: u32) -> Failure {
    match fate(number) {
        Fate::Refused => Failure::Status(400, None),
        _ if has_own_codes(number) => Failure::Status(418, None),
        _ => FAILURES[(number / 6 + retry as usize) % FAILURES.len()],
    }
}

/// Whether the message says itself which statuses are retried.
fn has_own_codes(number: usize) -> bool {
    number.is_multiple_of(11)
}

/// How often the message is tried at most, by its own word or the worker's.
pub fn most_attempts(number: usize) -> u32 {
    if fate(number) == Fate::Exhausted { 4 } else { 1_000 }
}

/// Whether the message leaves no room for what a worker adds, unless it is compressed.
fn is_large(number: usize) -> bool {
    number % 97 == 90
}

pub fn function(number: usize) -> &'static str {
    if number.is_multiple_of(5) { "f.staging-fn" } else { "f" }
}

/// The headers of the call that every attempt has to carry, in the order of their values.
pub fn headers(number: usize) -> Vec<(&'static str, String)> {
    let parent = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
    let fixed = [
        ("Accept", "text/plain;q=0.5, */*"),
        ("Accept-Encoding", "gzip"),
        ("Authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ("Baggage", "user=7;ttl=1"),
        ("Content-Type", "application/cloudevents+json; charset=utf-8"),
        ("Cookie", "a=1; b=\"2\""),
        ("Queue-Worker-Attempts", "99"),
        ("Tracestate", "vendor=a,other=b"),
        ("User-Agent", "caller/1.0 (of its own)"),
        ("X-Empty", ""),
        ("X-Forwarded-For", "10.0.0.1, 10.0.0.2"),
        ("X-Name", "Grüße, 世界"),
        ("X-Several", "first"),
        ("X-Several", "second"),
        ("X-Several", "first"),
        ("X-Several", ""),
        ("x-odd_Case.name", "~!#$%&'*+-.^_`|"),
    ];
    let mut headers: Vec<_> = fixed.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    headers.push(("Traceparent", parent));
    headers.push(("X-Call-Id", format!("call-{number}")));
    headers.push(("X-Long", "l".repeat(2_000)));
    headers.push(("X-Start-Time", (1_764_000_000_000_000_000 + number).to_string()));
    headers
}

pub fn body(number: usize) -> Vec<u8> {
    format!("what call {number} is about").into_bytes()
}

/// The message of this number.
pub fn message(number: usize, callbacks: &str) -> Invocation {
    let mut message = Invocation::of(function(number)).body(body(number));
    for (name, value) in headers(number) {
        message = message.header(name, &value);
    }
    if number % 4 == 1 {
        message = message.path("/a path/ü").field("QueryString", json!("q=1&q=2&r=%20"));
    }
    if fate(number) == Fate::Exhausted {
        message = message.retry_annotation("attempts", "4");
    }
    if has_own_codes(number) {
        message = message.retry_annotation("codes", "418").retry_annotation("min_wait", "400ms");
    }
    if wants_callback(number) {
        message = message.callback(&callbacks.replace("http://", "http://me:p%3Aw@"));
    }
    if is_large(number) {
        let padding = MAX_PAYLOAD - SPARE - message.to_bytes().len() - r#","Padding":"""#.len();
        message = message.field("Padding", json!("p".repeat(padding)));
    }
    message
}

/// So many of the first messages are published with headers of their own.
pub const PLANTED: usize = 60;

/// Whether the message comes as an operator sends a dead letter round again, and not as a gateway queues it.
pub fn is_sent_round(number: usize) -> bool {
    number < PLANTED && number % 2 == 1
}

/// The headers of the NATS message that no worker here writes, and that each carries on.
pub fn published(number: usize) -> HeaderMap {
    let foreign = [("X-Tenant", "a"), ("X-Tenant", "b"), ("traceparent", "00-0-0-01"), ("x-odd_Case", "1")];
    let ours = [("Queue-Worker-Redrives", "1"), ("Queue-Worker-Of-Tomorrow", "carried on")];
    let mut headers = HeaderMap::new();
    foreign.into_iter().filter(|_| number < PLANTED).for_each(|(name, value)| headers.append(name, value));
    ours.into_iter().filter(|_| is_sent_round(number)).for_each(|(name, value)| headers.append(name, value));
    headers
}

/// How long a call takes.
const CALL: Duration = Duration::from_millis(100);

/// What the gateway says to a call.
pub fn answer(call: &Call) -> Answer {
    let number = number(call);
    let failure = (!succeeds(call)).then(|| failure(number, call.retry()));
    let answer = match failure {
        None => Answer::ok().body(told(number, 200)),
        Some(Failure::NotFound) => Answer::status(404).body(told(number, 404)),
        Some(Failure::Torn) => Answer::ok().body(vec![b'x'; 4_096]).torn_after(2_048),
        Some(Failure::Status(status, header)) => {
            let answer = Answer::status(status).body(told(number, status));
            header.into_iter().fold(answer, |answer, (name, value)| answer.header(name, value))
        }
    };
    // With a call id no 404 is the gateway's own.
    let answer = if failure == Some(Failure::NotFound) {
        answer
    } else {
        answer.header("X-Call-Id", "of the function's own")
    };
    answer
        .header("Content-Type", "text/answer")
        .header("X-Answer", "one")
        .header("X-Answer", "two")
        .after(CALL)
}

/// The body of an answer, which a callback passes on.
pub fn told(number: usize, status: u16) -> Vec<u8> {
    let text = if status == 404 { "error finding function: call" } else { "answer to call" };
    format!("{text} {number}").into_bytes()
}
