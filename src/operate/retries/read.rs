//! Reads what lies in a queue's stream of retries, as it lies there: nothing is consumed.

use std::time::SystemTime;

use crate::{
    broker::jetstream::{JetStream, Stored},
    message::{
        decode::FunctionName,
        letter::{Letter, Place, choice::Choice},
        names::Names,
        timer::due_in,
    },
    operate::{
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// What a message of the stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its due time.
    Parked,
    /// A worker.
    Due,
    /// The end of its function's pause.
    Held,
}

impl State {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Due => "due",
            Self::Held => "held",
        }
    }
}

/// A message of the stream.
pub(super) struct Found {
    /// Its story, told as a letter's is.
    pub letter: Letter,
    pub state: State,
    /// When it is due.
    pub due: Option<SystemTime>,
}

/// The messages that are meant, oldest first, none of which came after the reading began.
pub(super) struct Retries {
    jetstream: JetStream,
    names: Names,
    choice: Choice,
    filter: String,
    next: u64,
    end: u64,
}

impl Retries {
    /// Those of a queue; `None` where it has no stream of them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(desk: &Desk, names: &Names, choice: &Choice) -> Result<Option<Self>, Failure> {
        let Some(info) = desk.stream(&names.retries).await? else { return Ok(None) };
        let filter = match choice.function.as_deref().map(str::parse::<FunctionName>) {
            Some(Ok(function)) => names.retries_of(&function.token()),
            _ => names.retries_subjects(),
        };
        Ok(Some(Self {
            jetstream: desk.jetstream.clone(),
            names: names.clone(),
            choice: choice.clone(),
            filter,
            next: 1,
            end: info.state.last_seq,
        }))
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn next(&mut self) -> Result<Option<Found>, Failure> {
        while self.next <= self.end {
            let asked = self.jetstream.next_stored(&self.names.retries, &self.filter, self.next).await;
            let Some(stored) = asked.map_err(cannot)? else { break };
            self.next = stored.sequence + 1;
            let Some(found) = self.read(&stored) else { continue };
            if found.letter.sequence <= self.end && self.choice.covers(&found.letter) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn read(&self, stored: &Stored) -> Option<Found> {
        let (state, function) = self.names.retry(&stored.subject)?;
        let headers = stored.headers();
        let place = Place {
            stream: &self.names.retries,
            subject: function,
            sequence: stored.sequence,
            stored: stored.time,
            bytes: stored.payload.len() as u64,
        };
        Some(Found { letter: Letter::read(place, &headers), state, due: due_in(&headers) })
    }
}

impl Names {
    /// Wherever retries of a function (a token) lie.
    fn retries_of(&self, function: &str) -> String {
        format!("{}-retries.*.{function}.>", self.queue)
    }

    /// What the retry on this subject waits for, and its function's token; `None` where it is none.
    fn retry<'s>(&self, subject: &'s str) -> Option<(State, &'s str)> {
        let rest = subject.strip_prefix(self.queue.as_str())?.strip_prefix("-retries.")?;
        let (place, rest) = rest.split_once('.')?;
        let state = match place {
            "due" => State::Due,
            "held" => State::Held,
            _ if place == "at" || Self::level_of(place).is_some() => State::Parked,
            _ => return None,
        };
        Some((state, rest.split('.').next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_says_what_a_retry_waits_for() {
        let names = Names::new("a.b", "s");
        for (subject, expected) in [
            ("a.b-retries.at.f%2Ens.7-10.1", Some((State::Parked, "f%2Ens"))),
            ("a.b-retries.l3.f.7-10.1", Some((State::Parked, "f"))),
            ("a.b-retries.due.f.7-10.1", Some((State::Due, "f"))),
            ("a.b-retries.held.f.7-10.1", Some((State::Held, "f"))),
            ("a.b-retries.l03.f.7-10.1", None),
            ("a.b-retries._probe", None),
            ("a.b-dead.f", None),
        ] {
            assert_eq!(names.retry(subject), expected, "{subject}");
        }
    }
}
