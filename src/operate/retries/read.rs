//! Reads what lies in a queue's stream of retries, as it lies there: nothing is consumed.

use std::time::SystemTime;

use crate::{
    broker::jetstream::{JetStream, Stored},
    message::{
        letter::{Letter, Place, choice::Choice, waiting::Waiting},
        names::Names,
        timer::due_in,
    },
    operate::{
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// A message of the stream.
pub(in crate::operate) struct Found {
    /// Its story, told as a letter's is.
    pub letter: Letter,
    pub state: Waiting,
    /// When it is due.
    pub due: Option<SystemTime>,
}

/// The messages that are meant, oldest first, none of which came after the reading began.
pub(in crate::operate) struct Retries {
    jetstream: JetStream,
    names: Names,
    choice: Choice,
    filter: String,
    next: u64,
    /// The highest sequence that is looked at.
    pub(in crate::operate) end: u64,
}

impl Retries {
    /// Those of a queue; `None` where it has no stream of them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(desk: &Desk, names: &Names, choice: &Choice) -> Result<Option<Self>, Failure> {
        let Some(info) = desk.stream(&names.retries).await? else { return Ok(None) };
        Ok(Some(Self {
            jetstream: desk.jetstream.clone(),
            names: names.clone(),
            choice: choice.clone(),
            filter: choice.retries_subjects(names),
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
        let headers = stored.headers();
        let place = Place {
            stream: &self.names.retries,
            subject: &stored.subject,
            sequence: stored.sequence,
            stored: stored.time,
            bytes: stored.payload.len() as u64,
        };
        let (state, letter) = Letter::waiting(&self.names, place, &headers)?;
        Some(Found { letter, state, due: due_in(&headers) })
    }
}

/// The failure where nothing is meant.
pub(in crate::operate) fn nothing(choice: &Choice) -> Failure {
    let which = if choice.is_all() { String::new() } else { format!(" that matches {choice}") };
    Failure::Nothing(format!("no retry waits{which}"))
}
