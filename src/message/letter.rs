//! A dead letter as its headers tell it: everything that people ask a list of them for. Its body is read for
//! [`content`] only.

pub mod choice;
pub mod content;
pub mod groups;
pub mod normal;
pub mod waiting;

use std::{borrow::Cow, time::SystemTime};

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};

use self::choice::moment;
use crate::message::{
    envelope::{Envelope, Kind},
    header,
    names::{self, UNDECODABLE},
};

/// A dead letter, without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Its sequence in the stream of dead letters.
    pub sequence: u64,
    /// The function, by the letter's subject; `None` where nothing names one.
    pub function: Option<String>,
    /// The call id, where it is known.
    pub call_id: Option<String>,
    /// Why it is dead, in the word of whoever wrote it.
    pub cause: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// How the last attempt came out: an HTTP status, or a word.
    pub last_status: Option<Status>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it died.
    pub failed_at: SystemTime,
    /// When its invocation first arrived.
    pub first_seen: SystemTime,
    /// `<stream>:<id>` of its invocation.
    pub original_id: String,
    /// How many bytes its payload has as it is stored.
    pub bytes: u64,
    /// How often somebody sent it round again, in their word.
    pub redrives: Option<String>,
    /// Whether it is an answer whose callback did not arrive, and no invocation.
    pub is_callback: bool,
    /// The last attempts, oldest first.
    pub history: Vec<Attempt>,
}

/// An attempt of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub n: u32,
    /// How it came out.
    pub status: Status,
    /// How long it took.
    pub milliseconds: u64,
    /// Who made it.
    pub worker: String,
    /// When it was begun, as far as that is known.
    #[serde(default, with = "moment")]
    pub at: Option<SystemTime>,
}

/// How an attempt came out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// An answer with this HTTP status.
    Http(u16),
    /// No answer: `timeout`, `unreachable`, `broken`, or another version's word.
    Word(String),
}

impl Status {
    /// A status as it is written.
    pub fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Word(text.to_owned()), Self::Http)
    }

    /// As it is written.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Http(status) => status.to_string().into(),
            Self::Word(word) => word.into(),
        }
    }
}

/// A letter as it lies in the stream.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored.
    pub stored: SystemTime,
    /// The bytes of its payload.
    pub bytes: u64,
}

impl Letter {
    /// Reads a letter. What cannot be read of it counts as not said.
    pub fn read(place: Place<'_>, headers: &HeaderMap) -> Self {
        let text = |name: &str| header::said(headers, name);
        let time = |name: &str| text(name).and_then(|value| humantime::parse_rfc3339(value).ok());
        let told = Envelope::told(place.stream, place.sequence, place.stored, headers);
        let history = Attempt::all(&told);
        let last_status = text(names::LAST_STATUS)
            .map(Status::of)
            .or_else(|| history.last().map(|attempt| attempt.status.clone()));
        Self {
            sequence: place.sequence,
            function: function(place.subject),
            call_id: text(names::CALL_ID).map(str::to_owned),
            cause: text(names::CAUSE).map(str::to_owned),
            attempts: told.attempts,
            last_status,
            original_id: told.original_id(),
            last_error: told.last_error,
            failed_at: time(names::FAILED_AT).unwrap_or(place.stored),
            first_seen: told.first_seen,
            bytes: place.bytes,
            redrives: told.redrives,
            is_callback: told.kind == Kind::Callback,
            history,
        }
    }
}

impl Attempt {
    /// The attempts that a past tells of.
    pub fn all(told: &Envelope) -> Vec<Self> {
        Self::of(&told.history, &told.times)
    }

    /// The attempts that a past's history and times tell of.
    pub fn of(history: &[String], times: &[(u32, SystemTime)]) -> Vec<Self> {
        let at = |n| times.iter().find(|(number, _)| *number == n).map(|(_, at)| *at);
        let read = history.iter().filter_map(|entry| Self::read(entry));
        read.map(|attempt| Self { at: at(attempt.n), ..attempt }).collect()
    }

    fn read(entry: &str) -> Option<Self> {
        let mut parts = entry.splitn(4, ':');
        Some(Self {
            n: parts.next()?.parse().ok()?,
            status: Status::of(parts.next()?),
            milliseconds: parts.next()?.parse().ok()?,
            worker: parts.next().unwrap_or_default().to_owned(),
            at: None,
        })
    }
}

/// The function whose letters lie on this subject.
fn function(subject: &str) -> Option<String> {
    let token = subject.rsplit('.').next().filter(|token| *token != UNDECODABLE && !token.is_empty())?;
    Some(token.replace("%2E", "."))
}

#[cfg(test)]
mod tests;
