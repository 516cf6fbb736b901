//! Reads the dead letters of a queue that are meant, as they lie in its stream.

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::{
    broker::{
        jetstream::Stored,
        walk::{Seen, Walk},
    },
    message::{
        letter::{Letter, Place, choice::Choice},
        names::Names,
    },
    operate::{
        desk::Desk,
        end::{Failure, cannot},
    },
};

/// How many bodies are fetched at once, and the most bytes of them.
const AT_ONCE: (usize, u64) = (64, 8 << 20);
/// Clocks and streams agree to so many seconds: a letter is stored when it died, or later.
const SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// The letters of a queue that are meant, none of which died after the reading began.
#[derive(Debug)]
pub(crate) struct Letters {
    walk: Walk,
    stream: String,
    choice: Choice,
    /// The highest sequence that is looked at.
    pub(in crate::operate) end: u64,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Part<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// The sequence behind which the list goes on, if it does.
    pub next: Option<u64>,
}

impl Letters {
    /// The letters of a queue that are meant, behind this sequence; `None` where it has no stream of them.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(
        desk: &Desk,
        names: &Names,
        choice: &Choice,
        after: u64,
    ) -> Result<Option<Self>, Failure> {
        let Some(info) = desk.stream(&names.dead).await? else { return Ok(None) };
        Ok(Some(Self::until(desk, names, choice, (after, info.state.last_seq))))
    }

    /// The letters of a queue that are meant, behind the first of these sequences and up to the second.
    pub fn until(desk: &Desk, names: &Names, choice: &Choice, (after, end): (u64, u64)) -> Self {
        let since = choice.since.and_then(|since| since.checked_sub(SKEW));
        let (first, last) = (choice.sequences.iter().min(), choice.sequences.iter().max());
        let last = last.map_or(end, |last| end.min(*last));
        let (choice, first) = (desk.choice(names, choice), first.copied().unwrap_or(1));
        let place = (names.dead.as_str(), choice.subjects(names));
        let walk = Walk::over(&desk.jetstream, place, first.max(after.saturating_add(1)), last, since);
        Self { walk, stream: names.dead.clone(), choice, end }
    }

    /// Some of them; none at the end.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn next(&mut self) -> Result<Vec<Letter>, Failure> {
        loop {
            match self.step().await? {
                None => return Ok(Vec::new()),
                Some(letters) if letters.is_empty() => {}
                Some(letters) => return Ok(letters),
            }
        }
    }

    /// Those among the next ones that lie there; `None` at the end.
    async fn step(&mut self) -> Result<Option<Vec<Letter>>, Failure> {
        let seen = self.walk.next().await.map_err(cannot)?;
        let read = |one: &Seen| {
            let place = Place {
                stream: &self.stream,
                subject: &one.subject,
                sequence: one.sequence,
                stored: one.stored,
                bytes: one.bytes,
            };
            Letter::read(place, &one.headers)
        };
        let letters = seen.iter().map(read).filter(|letter| self.choice.covers(letter)).collect();
        Ok((!seen.is_empty()).then_some(letters))
    }

    /// Hands them on until then, or until `take` wants no more. Returns the sequence behind which it goes
    /// on, if it does.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn each(
        mut self,
        until: Instant,
        mut take: impl FnMut(Letter) -> bool,
    ) -> Result<Option<u64>, Failure> {
        let next = 'read: loop {
            let Some(letters) = self.step().await? else { break None };
            for letter in letters {
                let before = letter.sequence - 1;
                if !take(letter) {
                    break 'read Some(before);
                }
            }
            if Instant::now() >= until {
                break Some(self.walk.seen());
            }
        };
        self.walk.end().await;
        Ok(next)
    }

    /// At most so many of them, and those that can be read until then.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn part(self, limit: usize, until: Instant) -> Result<Part<Letter>, Failure> {
        let mut items = Vec::new();
        let take = |letter| {
            let has_room = items.len() < limit;
            if has_room {
                items.push(letter);
            }
            has_room
        };
        let next = self.each(until, take).await?;
        Ok(Part { items, next })
    }
}

/// Parts of some letters, as large as may be fetched at once.
pub(super) fn parts(letters: &[Letter]) -> Vec<&[Letter]> {
    let (most, most_bytes) = AT_ONCE;
    let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, letter) in letters.iter().enumerate() {
        if at > from && (at - from == most || bytes + letter.bytes > most_bytes) {
            parts.extend(letters.get(from..at));
            (from, bytes) = (at, 0);
        }
        bytes += letter.bytes;
    }
    parts.extend(letters.get(from..).filter(|rest| !rest.is_empty()));
    parts
}

/// Fetches letters as they are stored, less those that are gone by now.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn fetch(desk: &Desk, names: &Names, letters: &[Letter]) -> Result<Vec<Stored>, Failure> {
    let asked = letters.iter().map(|letter| desk.jetstream.stored(&names.dead, letter.sequence));
    Ok(try_join_all(asked).await.map_err(cannot)?.into_iter().flatten().collect())
}

/// The failure where a queue has no dead letters and never had any.
pub(in crate::operate) fn no_stream(names: &Names) -> Failure {
    Failure::Conflict(format!(
        "there is no stream {}: no worker has served the queue {} with dead_letters=true yet",
        names.dead, names.queue
    ))
}

/// The failure where nothing is meant.
pub(in crate::operate) fn nothing(names: &Names, choice: &Choice) -> Failure {
    let which = if choice.is_all() { String::new() } else { format!(" that matches {choice}") };
    Failure::Nothing(format!("there is no dead letter of {}{which}", names.queue))
}
