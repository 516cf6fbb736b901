//! What lies in the stream of retries, told as a letter is.

use async_nats::HeaderMap;

use super::{Letter, Place, choice::Choice};
use crate::message::names::Names;

/// What a message of the stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Its due time.
    Parked,
    /// A worker.
    Due,
    /// The end of its function's pause.
    Held,
}

impl Waiting {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Due => "due",
            Self::Held => "held",
        }
    }
}

impl Letter {
    /// Reads what lies in a queue's stream of retries; `None` where it is no retry.
    pub fn waiting(names: &Names, place: Place<'_>, headers: &HeaderMap) -> Option<(Waiting, Self)> {
        let (waiting, function) = names.retry(place.subject)?;
        Some((waiting, Self::read(Place { subject: function, ..place }, headers)))
    }

    /// Reads a call that waits for its due time; `None` where it is none.
    pub(crate) fn parked_call(names: &Names, place: Place<'_>, headers: &HeaderMap) -> Option<Self> {
        let (waiting, letter) = Self::waiting(names, place, headers)?;
        (waiting == Waiting::Parked && !letter.is_callback).then_some(letter)
    }
}

impl Choice {
    /// The subjects on which the retries of this queue lie that may be meant.
    pub(crate) fn retries_subjects(&self, names: &Names) -> Vec<String> {
        self.on(|function| names.retries_of(function), || names.retries_subjects())
    }
}

impl Names {
    /// Wherever retries of a function (a token) lie.
    fn retries_of(&self, function: &str) -> String {
        format!("{}-retries.*.{function}.>", self.queue)
    }

    /// What the retry on this subject waits for, and its function's token; `None` where it is none.
    pub(crate) fn retry<'s>(&self, subject: &'s str) -> Option<(Waiting, &'s str)> {
        let rest = subject.strip_prefix(self.queue.as_str())?.strip_prefix("-retries.")?;
        let (place, rest) = rest.split_once('.')?;
        let waiting = match place {
            "due" => Waiting::Due,
            "held" => Waiting::Held,
            _ if place == "at" || Self::level_of(place).is_some() => Waiting::Parked,
            _ => return None,
        };
        Some((waiting, rest.split('.').next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_what_a_retry_waits_for() {
        let names = Names::new("a.b", "s");
        for (subject, expected) in [
            ("a.b-retries.at.f%2Ens.7-10.1", Some((Waiting::Parked, "f%2Ens"))),
            ("a.b-retries.l3.f.7-10.1", Some((Waiting::Parked, "f"))),
            ("a.b-retries.due.f.7-10.1", Some((Waiting::Due, "f"))),
            ("a.b-retries.held.f.7-10.1", Some((Waiting::Held, "f"))),
            ("a.b-retries.l03.f.7-10.1", None),
            ("a.b-retries._probe", None),
            ("a.b-dead.f", None),
        ] {
            assert_eq!(names.retry(subject), expected, "{subject}");
        }
    }
}
