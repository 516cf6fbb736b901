//! Reads what lies in a queue's stream of retries, as it lies there: nothing is consumed.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::{
    broker::jetstream::{JetStream, Stored},
    message::{
        letter::{Letter, Place, choice::Choice, waiting::Waiting},
        names::Names,
        timer::due_in,
    },
    operate::{
        dead_letters::read::Part,
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// A message of the stream.
pub(crate) struct Found {
    /// Its story, told as a letter's is.
    pub letter: Letter,
    pub state: Waiting,
    /// When it is due.
    pub due: Option<SystemTime>,
}

/// The messages that are meant, oldest first, none of which came after the reading began.
pub(crate) struct Retries {
    jetstream: JetStream,
    names: Names,
    choice: Choice,
    filters: Vec<String>,
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
        let (end, choice) = (info.state.last_seq, desk.choice(names, choice));
        Ok(Some(Self {
            jetstream: desk.jetstream.clone(),
            names: names.clone(),
            filters: choice.retries_subjects(names),
            next: choice.sequences.iter().min().copied().unwrap_or(1),
            end: choice.sequences.iter().max().map_or(end, |last| end.min(*last)),
            choice,
        }))
    }

    /// Those behind this sequence.
    pub fn behind(self, sequence: u64) -> Self {
        Self { next: self.next.max(sequence.saturating_add(1)), ..self }
    }

    /// At most so many of them, and those that can be read until then.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn part(mut self, limit: usize, until: Instant) -> Result<Part<Found>, Failure> {
        let mut items = Vec::new();
        while let Some(found) = self.step().await? {
            items.extend(found);
            let is_full = items.len() > limit;
            if is_full || Instant::now() >= until {
                items.truncate(limit);
                let last = items.last().map(|found| found.letter.sequence).filter(|_| is_full);
                return Ok(Part { items, next: Some(last.unwrap_or(self.next - 1)) });
            }
        }
        Ok(Part { items, next: None })
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn next(&mut self) -> Result<Option<Found>, Failure> {
        while let Some(found) = self.step().await? {
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The next one that lies there, if it is meant; `None` at the end.
    async fn step(&mut self) -> Result<Option<Option<Found>>, Failure> {
        if self.next > self.end {
            return Ok(None);
        }
        let asked = self.jetstream.next_of(&self.names.retries, &self.filters, self.next).await;
        let Some(stored) = asked.map_err(cannot)? else { return Ok(None) };
        self.next = stored.sequence + 1;
        let is_meant = |found: &Found| found.letter.sequence <= self.end && self.choice.covers(&found.letter);
        Ok(Some(self.read(&stored).filter(is_meant)))
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
