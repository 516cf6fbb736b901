//! What a message carries about its own past: the headers that travel from clone to clone.

mod carried;
mod kind;
mod redrive;
mod times;

use std::{
    fmt, mem,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;

use carried::{CARRIED, carried, whole};
pub use kind::{Encoding, Kind};
pub(crate) use redrive::count as redrives;

use crate::message::{
    arrival::Arrival,
    call::written,
    header,
    names::{self, Id, Names},
    subject,
};
use crate::text::line::ascii;

/// How many attempts the history keeps, and how many bytes.
const HISTORY: (usize, usize) = (20, 1024);
/// The most bytes of a header's value where nothing else is said.
pub(crate) const VALUE: usize = 256;
/// The most bytes of the last error.
const ERROR: usize = 1024;
/// About as much as the headers of what is parked take at most.
pub(crate) const ROOM: usize = HISTORY.1 + ERROR + CARRIED + 18 * VALUE;

/// More generations than any message ever has. A message that could not be counted further would be its own
/// successor.
const MOST_GENERATIONS: u64 = u64::MAX / 2;

/// The past of an invocation.
#[derive(Clone, PartialEq)]
pub struct Envelope {
    /// What the message is.
    pub kind: Kind,
    /// The stream in which it first arrived.
    pub origin: Arc<str>,
    /// Its identity there.
    pub id: Id,
    /// Clones between this message and the first arrival.
    pub generation: u64,
    /// Attempts made: calls whose outcome is known.
    pub attempts: u32,
    /// Delayed waits so far, which the back-off counts.
    pub delayed: u32,
    /// Calls in a row that were cut off with their worker.
    pub(crate) interruptions: u32,
    /// How often an operator sent it round again, in the words of whoever wrote that: each is a life of its
    /// own, with a dead letter of its own.
    pub redrives: Option<String>,
    /// When that was last done: its age counts from then.
    pub redriven_at: Option<SystemTime>,
    /// Until when its caller put it off.
    pub not_before: Option<SystemTime>,
    /// Who cancelled it, and why.
    pub cancelled: Option<String>,
    /// The row of attempts, the last one included, in which the gateway did not find the function.
    pub not_found: Option<NotFound>,
    /// When it first arrived.
    pub first_seen: SystemTime,
    /// When this clone was due.
    pub due: Option<SystemTime>,
    /// When it was parked; only where its waits are traced.
    pub parked: Option<SystemTime>,
    /// The last HTTP status.
    pub(crate) last_status: Option<String>,
    /// Why the last attempt failed.
    pub(crate) last_error: Option<String>,
    /// The last attempts, oldest first.
    pub history: Vec<String>,
    /// When those attempts were begun, by their numbers, as far as that is known.
    pub times: Vec<(u32, SystemTime)>,
    /// How the payload is stored.
    pub encoding: Encoding,
    /// The subject on which it first arrived, where subject and headers are part of the call. Then all
    /// headers are carried on.
    pub subject: Option<String>,
    /// Headers that are not this version's, carried on as they are.
    pub carried: HeaderMap,
}

/// A row of attempts in which the gateway did not find the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotFound {
    /// How many they are.
    pub attempts: u32,
    /// When the first of them ended.
    pub since: SystemTime,
}

impl fmt::Debug for Envelope {
    /// Without what is carried on for others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Envelope");
        shown
            .field("kind", &self.kind)
            .field("origin", &self.origin)
            .field("id", &self.id)
            .field("generation", &self.generation);
        shown
            .field("attempts", &self.attempts)
            .field("delayed", &self.delayed)
            .field("interruptions", &self.interruptions);
        shown
            .field("due", &self.due)
            .field("last_status", &self.last_status)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl Envelope {
    /// The past of a message that arrived in the queue's own stream: none. Headers with our prefix are the
    /// caller's there and say nothing.
    pub fn fresh(arrival: &Arrival) -> Self {
        Self { carried: carried(&arrival.headers, false, CARRIED), ..Self::first(arrival) }
    }

    /// The same of a message whose headers and subject are part of the call. Takes the headers.
    pub fn fresh_whole(arrival: &mut Arrival) -> Self {
        let (subject, headers) = (Some(arrival.subject.clone()), mem::take(&mut arrival.headers));
        Self { subject, carried: whole(headers), ..Self::first(arrival) }
    }

    fn first(arrival: &Arrival) -> Self {
        Self::unknown(arrival.stream.clone(), arrival.sequence, arrival.stored)
    }

    fn unknown(origin: Arc<str>, sequence: u64, stored: SystemTime) -> Self {
        Self {
            kind: Kind::Invocation,
            origin,
            id: Id::new(sequence, stored),
            generation: 0,
            attempts: 0,
            delayed: 0,
            interruptions: 0,
            redrives: None,
            redriven_at: None,
            not_before: None,
            cancelled: None,
            not_found: None,
            first_seen: stored,
            due: None,
            parked: None,
            last_status: None,
            last_error: None,
            history: Vec::new(),
            times: Vec::new(),
            encoding: Encoding::Plain,
            subject: None,
            carried: HeaderMap::new(),
        }
    }

    /// The past of a message that a worker parked. Unreadable headers count as never written, so that a
    /// damaged message is tried rather than lost. Its subject says its generation, too: a message that took
    /// itself for an earlier one would find itself as its own successor.
    pub fn parked(arrival: &Arrival) -> Self {
        let told = Self::told(&arrival.stream, arrival.sequence, arrival.stored, &arrival.headers);
        let by_subject =
            Names::generation_of(&arrival.subject).filter(|generation| *generation <= MOST_GENERATIONS);
        Self { generation: told.generation.max(by_subject.unwrap_or(0)), ..told }
    }

    /// The past of a message that was stored there, as its headers tell it.
    pub fn told(stream: &str, sequence: u64, stored: SystemTime, headers: &HeaderMap) -> Self {
        Self::unknown(stream.into(), sequence, stored).as_told(headers)
    }

    /// The past that headers of ours tell. Where they do not tell its identity, that stays.
    #[must_use]
    pub fn as_told(&self, headers: &HeaderMap) -> Self {
        let text = |name: &str| header::said(headers, name);
        let time = |name| text(name).and_then(|value| humantime::parse_rfc3339(value).ok());
        let (origin, id) = text(names::ORIGINAL_ID)
            .and_then(|value| value.rsplit_once(':'))
            .filter(|(origin, _)| origin.len() <= VALUE)
            .and_then(|(origin, id)| Some((origin.into(), id.parse().ok()?)))
            .unwrap_or((self.origin.clone(), self.id));
        let attempts = number(text(names::ATTEMPTS)).unwrap_or(0);
        let not_found =
            text(names::NOT_FOUND).and_then(|value| value.split_once(':')).and_then(|(attempts, since)| {
                Some(NotFound {
                    attempts: attempts.parse().ok()?,
                    since: humantime::parse_rfc3339(since).ok()?,
                })
            });
        let subject = text(names::SUBJECT).and_then(subject::read);
        Self {
            kind: Kind::read(text(names::KIND)),
            origin,
            id,
            generation: number(text(names::HOP))
                .filter(|generation| *generation <= MOST_GENERATIONS)
                .unwrap_or(0),
            attempts,
            delayed: number(text(names::DELAYED)).unwrap_or(attempts),
            interruptions: number(text(names::INTERRUPTIONS)).unwrap_or(0),
            redrives: header::values(headers, names::REDRIVES).next().map(redrive::read),
            redriven_at: time(names::REDRIVEN_AT),
            not_before: time(names::NOT_BEFORE),
            cancelled: text(names::CANCELLED).map(str::to_owned),
            // A row longer than the attempts is of an earlier life: what is sent round again begins anew.
            not_found: not_found.filter(|row: &NotFound| row.attempts <= attempts),
            first_seen: time(names::FIRST_SEEN).unwrap_or_else(|| id.stored_at()),
            due: time(names::DUE),
            parked: time(names::PARKED_AT),
            last_status: text(names::LAST_STATUS).map(str::to_owned),
            last_error: text(names::LAST_ERROR).map(str::to_owned),
            history: text(names::HISTORY).map(history).unwrap_or_default(),
            times: text(names::ATTEMPT_TIMES).map(times::read).unwrap_or_default(),
            encoding: if text(names::ENCODING) == Some("gzip") { Encoding::Gzip } else { Encoding::Plain },
            carried: carried(headers, true, if subject.is_some() { usize::MAX } else { CARRIED }),
            subject,
        }
    }

    /// Adds an attempt whose outcome is known. A known outcome ends a row of interruptions.
    pub fn record(
        &mut self,
        status: Option<u16>,
        label: &str,
        error: Option<String>,
        took: Duration,
        worker: &str,
    ) {
        self.attempts = self.attempts.saturating_add(1);
        self.interruptions = 0;
        self.last_status = status.map(|status| status.to_string());
        self.last_error = error;
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (mut attempts, mut taken) = (itoa::Buffer::new(), itoa::Buffer::new());
        // Each call comes by here: nothing is formatted that is a text already.
        self.history.push([attempts.format(self.attempts), label, taken.format(millis), worker].join(":"));
        let (entries, bytes) = HISTORY;
        while self.history.len() > entries
            || self.history.iter().map(|entry| entry.len() + 1).sum::<usize>() > bytes
        {
            self.history.remove(0);
        }
    }

    /// Notes when the last attempt was begun, which took so long until `now`.
    pub fn note_begun(&mut self, now: SystemTime, took: Duration) {
        self.times.push((self.attempts, times::begun(now, took)));
        let many = self.times.len().saturating_sub(HISTORY.0);
        self.times.drain(..many);
    }

    /// Adds an attempt at `now` to the row of those in which the gateway did not find the function, or ends
    /// the row.
    pub fn note_found(&mut self, found: bool, now: SystemTime) {
        let row = self.not_found.unwrap_or(NotFound { attempts: 0, since: now });
        self.not_found = (!found).then(|| NotFound { attempts: row.attempts.saturating_add(1), ..row });
    }

    /// `<stream>:<id>` of the invocation.
    pub fn original_id(&self) -> String {
        self.id.in_stream(&self.origin)
    }

    /// One generation further.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { generation: self.generation.saturating_add(1), due: None, parked: None, ..self.clone() }
    }

    /// The past of its callback, whose own attempts begin here. It follows from the invocation's message as a
    /// retry would, so that whoever gets that message again finds it.
    #[must_use]
    pub fn callback(&self) -> Self {
        Self {
            kind: Kind::Callback,
            attempts: 0,
            delayed: 0,
            interruptions: 0,
            cancelled: None,
            not_found: None,
            due: None,
            last_status: None,
            last_error: None,
            history: Vec::new(),
            times: Vec::new(),
            encoding: Encoding::Plain,
            subject: None,
            ..self.clone()
        }
    }

    /// How the last attempt came out, in the word of the history, and how many milliseconds it took.
    pub fn last_attempt(&self) -> Option<(&str, u64)> {
        let mut parts = self.history.last()?.split(':').skip(1);
        Some((parts.next()?, parts.next()?.parse().ok()?))
    }

    /// The headers that say all this. `thin` leaves out what only helps people to look, and what is not ours
    /// unless it is part of the call.
    pub fn headers(&self, function: Option<&str>, call_id: Option<&str>, thin: bool) -> HeaderMap {
        let mut headers = times::headers(if thin { &[] } else { &self.times });
        let goes_on = |name: &str| !thin || self.subject.is_some() || names::is_ours(name);
        for (name, values) in self.carried.iter().filter(|(name, _)| goes_on(name.as_ref())) {
            values.iter().for_each(|value| header::copy(&mut headers, name, value));
        }
        let mut put = |name: &'static str, value: String| header::put(&mut headers, name, &value);
        put(names::HOP, self.generation.to_string());
        put(names::ATTEMPTS, self.attempts.to_string());
        put(names::ORIGINAL_ID, self.original_id());
        put(names::FIRST_SEEN, rfc3339(self.first_seen));
        if let Some(due) = self.due {
            put(names::DUE, rfc3339(due));
            if self.delayed != self.attempts {
                put(names::DELAYED, self.delayed.to_string());
            }
        }
        if let Some(function) = function {
            put(names::FUNCTION, ascii(function, VALUE));
        }
        if let Some(subject) = &self.subject {
            put(names::SUBJECT, subject::written(subject));
        }
        for (name, text) in [(names::LAST_STATUS, &self.last_status), (names::CANCELLED, &self.cancelled)] {
            text.iter().for_each(|text| put(name, ascii(text, VALUE)));
        }
        if self.interruptions > 0 {
            put(names::INTERRUPTIONS, self.interruptions.to_string());
        }
        if let Some(redrives) = &self.redrives {
            put(names::REDRIVES, redrives.clone());
        }
        for (name, at) in [(names::REDRIVEN_AT, self.redriven_at), (names::NOT_BEFORE, self.not_before)] {
            at.iter().for_each(|at| put(name, rfc3339(*at)));
        }
        if let Some(NotFound { attempts, since }) = self.not_found {
            put(names::NOT_FOUND, format!("{attempts}:{}", rfc3339(since)));
        }
        if let Some(kind) = self.kind.as_str() {
            put(names::KIND, ascii(kind, VALUE));
        }
        if self.encoding == Encoding::Gzip {
            put(names::ENCODING, "gzip".to_owned());
        }
        // The last attempt says what a callback reports.
        let entries = if thin { self.history.len().saturating_sub(1) } else { 0 };
        if let Some(history) = self.history.get(entries..).filter(|history| !history.is_empty()) {
            put(names::HISTORY, ascii(&history.join(","), HISTORY.1));
        }
        if thin {
            return headers;
        }
        if let Some(call_id) = call_id {
            put(names::CALL_ID, written(call_id).into_owned());
        }
        if let Some(parked) = self.parked {
            put(names::PARKED_AT, rfc3339(parked));
        }
        if let Some(error) = &self.last_error {
            put(names::LAST_ERROR, ascii(error, ERROR));
        }
        headers
    }
}

/// RFC 3339 with nanoseconds.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

/// The last attempts of a history, oldest first.
fn history(all: &str) -> Vec<String> {
    let mut last: Vec<_> = all.rsplit(',').take(HISTORY.0).map(|one| one.trim().to_owned()).collect();
    last.reverse();
    last
}

fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
