//! Whether all that was sent arrived: complaints about calls, callbacks, parked retries and dead letters, in
//! words. Pure.

mod tests;

use std::{collections::BTreeMap, fmt::Debug, io::Read};

use async_nats::HeaderMap;
use flate2::read::GzDecoder;

use super::{
    super::script::{fate, worker},
    script::{body, failure, function, headers, message, most_attempts, told},
};
use crate::{
    ledger::Fate,
    support::{Call, Stored, http},
};

/// The headers that every parked invocation has.
const PARKED: [&str; 7] = ["Hop", "Attempts", "Due", "Original-Id", "First-Seen", "Function", "Call-Id"];
/// The headers that every dead letter of an invocation has.
const DEAD: [&str; 9] =
    ["Hop", "Attempts", "Original-Id", "First-Seen", "Function", "Call-Id", "History", "Cause", "Failed-At"];

/// What is to be said about the message of this number.
struct Complaints(usize, Vec<String>);

impl Complaints {
    fn about(number: usize) -> Self {
        Self(number, Vec::new())
    }

    fn unless_equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.1.push(format!("call-{}: {what} is {found:?} and not {expected:?}", self.0));
        }
    }
}

type Headers<'h> = BTreeMap<String, Vec<&'h str>>;

/// The values of each header by its name in lower case.
fn by_name<'h>(headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Headers<'h> {
    let mut values = Headers::new();
    for (name, value) in headers {
        values.entry(name.to_lowercase()).or_default().push(value);
    }
    values
}

fn received(message: &http::Message) -> Headers<'_> {
    by_name(message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The calls of one message: each has all that was sent and just what the first one had, and their numbers
/// leave out none.
pub fn of_calls(number: usize, calls: &[&Call]) -> Vec<String> {
    let mut complaints = Complaints::about(number);
    let sent = headers(number);
    let sent = by_name(sent.iter().map(|(name, value)| (*name, value.as_str())));
    // The first place of the path is the worker's.
    let target = |call: &Call| call.target().splitn(3, '/').nth(2).map(str::to_owned);
    let most = (most_attempts(number) - 1).to_string();
    for call in calls {
        let (has, first) = (received(&call.request), received(&calls[0].request));
        for (name, values) in sent.iter().chain(&first).filter(|(name, _)| *name != "x-retry") {
            complaints.unless_equal(name, has.get(name), Some(values));
        }
        complaints.unless_equal(
            "the list of headers",
            has.keys().collect::<Vec<_>>(),
            first.keys().collect(),
        );
        complaints.unless_equal("X-Retry-Max", call.header("x-retry-max"), Some(&most));
        complaints.unless_equal("the target", target(call), target(calls[0]));
        complaints.unless_equal("the body", &*call.request.body, &body(number));
    }
    let mut retries: Vec<_> = calls.iter().map(|call| call.retry()).collect();
    retries.sort_unstable();
    retries.dedup();
    let without_gaps = (0..).take(retries.len()).collect();
    complaints.unless_equal("the row of attempts", retries, without_gaps);
    complaints.1
}

/// How often the message is retried, and the status of its last attempt if that has one.
fn end(number: usize) -> (u32, Option<u16>) {
    match fate(number) {
        Fate::After(tries) => (tries, Some(200)),
        Fate::Exhausted => (most_attempts(number) - 1, failure(number, most_attempts(number) - 1).status()),
        Fate::Refused => (0, failure(number, 0).status()),
    }
}

/// A callback of the message, in place or from where it was parked.
pub fn of_callback(number: usize, call: &Call) -> Vec<String> {
    let mut complaints = Complaints::about(number);
    let (retry, answered) = end(number);
    let [retry, most, status] =
        [retry, most_attempts(number) - 1, answered.unwrap_or(503).into()].map(|n| n.to_string());
    let id = format!("call-{number}");
    let mut expected = vec![
        ("Authorization", "Basic bWU6cDp3"),
        ("X-Call-Id", &*id),
        ("X-Function-Name", function(number)),
        ("X-Function-Status", &*status),
        ("X-Retry", &*retry),
        ("X-Retry-Max", &*most),
    ];
    // An answer may die with its worker, between the dead letter and the callback.
    let passed_on =
        answered.filter(|status| *status == 200 || call.header("x-body-truncated") != Some("true"));
    if passed_on.is_some() {
        expected.extend([("Content-Type", "text/answer"), ("X-Answer", "one"), ("X-Answer", "two")]);
    }
    let has = received(&call.request);
    for (name, values) in by_name(expected) {
        complaints.unless_equal(&format!("the callback's {name}"), has.get(&name), Some(&values));
    }
    let duration = call.header("x-duration-seconds").unwrap_or_default();
    complaints.unless_equal("whether the duration is a number", duration.parse::<f64>().is_ok(), true);
    let agent = call.header("user-agent").unwrap_or_default();
    complaints.unless_equal("whether the callback is ours", agent.starts_with("queue-worker/"), true);
    let body = passed_on.map(|status| told(number, status)).unwrap_or_default();
    complaints.unless_equal("the callback's body", &*call.request.body, &body);
    complaints.1
}

/// A parked retry; with these headers, which are not ours, its message was published.
pub fn of_parked(number: usize, parked: &Stored, published: &HeaderMap) -> Vec<String> {
    let mut complaints = Complaints::about(number);
    stored(&mut complaints, parked, &PARKED, published);
    complaints.1
}

fn stored(complaints: &mut Complaints, stored: &Stored, wanted: &[&str], published: &HeaderMap) {
    for name in wanted {
        complaints.unless_equal(
            &format!("whether {name} is there"),
            stored.header(&format!("Queue-Worker-{name}")).is_some(),
            true,
        );
    }
    for (name, values) in published.iter() {
        complaints.unless_equal(
            name.as_ref(),
            stored.headers.get_all(name.clone()).collect(),
            values.iter().collect::<Vec<_>>(),
        );
    }
}

/// The dead letter of a message that was called so, and published with these headers and this URL for
/// callbacks.
pub fn of_letter(
    number: usize,
    letter: &Stored,
    calls: &[&Call],
    published: &HeaderMap,
    callbacks: &str,
) -> Vec<String> {
    let mut complaints = Complaints::about(number);
    stored(&mut complaints, letter, &DEAD, published);
    let (retry, status) = end(number);
    let [attempts, id] = [(retry + 1).to_string(), format!("call-{number}")];
    complaints.unless_equal("Attempts", letter.header("Queue-Worker-Attempts"), Some(&attempts));
    complaints.unless_equal("Call-Id", letter.header("Queue-Worker-Call-Id"), Some(&id));
    let status = status.map(|status| status.to_string());
    complaints.unless_equal("Last-Status", letter.header("Queue-Worker-Last-Status"), status.as_deref());
    let silent = letter.header("Queue-Worker-Last-Error").is_none_or(str::is_empty);
    complaints.unless_equal("whether it says neither status nor error", silent && status.is_none(), false);
    let history = history(letter);
    let attempts: Vec<_> = history.iter().map(|(n, _)| *n).collect();
    complaints.unless_equal("the history", attempts, (1..=retry + 1).collect());
    for (n, name) in history {
        let made = calls.iter().any(|call| (call.retry() + 1, worker(call)) == (n, name));
        complaints.unless_equal(&format!("whether worker {name} made attempt {n}"), made, true);
    }
    let intact = payload(letter) == message(number, callbacks).to_bytes();
    complaints.unless_equal("whether the payload is what was published", intact, true);
    complaints.1
}

/// The attempts in a message's history: the number of each and that of its worker.
pub fn history(stored: &Stored) -> Vec<(u32, usize)> {
    let entries = stored.header("Queue-Worker-History").unwrap_or_default().split(',');
    let read = |entry: &str| {
        let mut parts = entry.trim().split(':');
        Some((parts.next()?.parse().ok()?, parts.next_back()?.strip_prefix("worker-")?.parse().ok()?))
    };
    entries.filter_map(read).collect()
}

fn payload(stored: &Stored) -> Vec<u8> {
    let mut payload = Vec::new();
    match stored.header("Queue-Worker-Encoding") {
        None => payload.extend_from_slice(&stored.payload),
        Some(_gzip) => _ = GzDecoder::new(&*stored.payload).read_to_end(&mut payload),
    }
    payload
}
