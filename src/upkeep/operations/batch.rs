//! Letters of an operation, some at a time: what the record says of them, and what is done with them.

use std::{collections::VecDeque, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    hands::{Fate, Halt},
    held::Lost,
    work::Work,
};
use crate::{
    broker::{
        jetstream::ApiError,
        walk::{Seen, Walk},
    },
    message::{
        letter::{Letter, Place},
        operation::{Kind, LEASE, Operation},
    },
};

/// The beginning of the note of what does not go on just now.
const AGAIN: &str = "it is tried again: ";
/// The most letters of a batch, and the most bytes.
const BATCH: (usize, u64) = (256, 8 << 20);
/// How many letters are under way at once, between two steps.
const AT_ONCE: usize = 32;
/// How long letters are looked for before the record says how far that is.
const SEARCH: Duration = Duration::from_secs(3);
/// Clocks and streams agree to so many seconds: a letter is stored when it died, or later.
const SKEW: Duration = Duration::from_secs(60);
/// From this share on a stream of retries with a size takes no redriven messages: due retries need room.
const FULL: (u64, u64) = (3, 4);

/// The letters that are still to come.
#[derive(Debug)]
pub(crate) struct Queue {
    walk: Walk,
    found: VecDeque<Letter>,
    /// How far was looked.
    seen: u64,
    /// Whether there is nothing more to look at.
    ended: bool,
}

impl Queue {
    /// Those behind the cursor.
    pub(super) fn of(work: &Work) -> Self {
        let (operation, names) = (work.held.operation(), &work.hands.names);
        let Operation { choice, cursor, cutoff, .. } = operation;
        let least = choice.sequences.iter().min().copied().unwrap_or(0);
        let most = choice.sequences.iter().max().copied().unwrap_or(u64::MAX);
        let since = choice.since.and_then(|since| since.checked_sub(SKEW));
        // A walk says nothing while it passes over what is older, and the lease must not end meanwhile.
        // Parked calls can be many, and their operation looks at the times itself.
        let (stream, subjects, since) = if work.hands.kind.is_of_retries() {
            (&names.retries, choice.retries_subjects(names), None)
        } else {
            (&names.dead, choice.subjects(names), since)
        };
        let (from, last) = ((cursor + 1).max(least), (*cutoff).min(most));
        let walk = Walk::over(&work.hands.jetstream, (stream.as_str(), subjects), from, last, since);
        Self { walk, found: VecDeque::new(), seen: *cursor, ended: false }
    }
}

impl Work {
    /// The next letters, at most `most` and as many as were found in a while; whether these are the last.
    pub(super) async fn next(&mut self, most: usize) -> Result<(Vec<Letter>, bool), ApiError> {
        let until = Instant::now() + SEARCH;
        let mut queue = match self.queue.take() {
            Some(queue) => queue,
            None => Queue::of(self),
        };
        while queue.found.len() < most && !queue.ended && Instant::now() < until {
            let seen = queue.walk.next().await?;
            let Some(last) = seen.last() else {
                queue.ended = true;
                break;
            };
            queue.seen = last.sequence;
            let letters = seen.iter().filter_map(|one| self.letter(one));
            queue.found.extend(letters.filter(|letter| self.held.operation().covers(letter)));
        }
        let (mut next, mut bytes) = (Vec::new(), 0);
        while next.len() < most && (bytes < BATCH.1 || next.is_empty()) {
            let Some(letter) = queue.found.pop_front() else { break };
            bytes += letter.bytes;
            next.push(letter);
        }
        if next.is_empty() {
            // Nothing up to here was meant, and nobody need look there again.
            self.held.edit().cursor = queue.seen;
        }
        let last = queue.ended && queue.found.is_empty();
        self.queue = Some(queue);
        Ok((next, last))
    }

    /// What was seen as a letter, or as a parked call; nothing where it is neither.
    fn letter(&self, one: &Seen) -> Option<Letter> {
        let Seen { subject, sequence, stored, bytes, headers, .. } = one;
        let names = &self.hands.names;
        let place =
            Place { stream: &names.dead, subject, sequence: *sequence, stored: *stored, bytes: *bytes };
        if !self.hands.kind.is_of_retries() {
            return Some(Letter::read(place, headers));
        }
        Letter::parked_call(names, Place { stream: &names.retries, ..place }, headers)
    }

    /// How many letters a batch may have.
    pub(super) fn most(&self) -> usize {
        let rate = self.held.operation().rate.map_or(usize::MAX, |rate| rate as usize);
        BATCH.0.min(rate).max(1)
    }

    /// Does with the batch of the record what is to be done. `resumed`: another worker may have done some of
    /// it before; what is gone then was done.
    pub(super) async fn settle(&mut self, resumed: bool) -> Result<(), Halt> {
        let batch = self.held.operation().batch.clone();
        let hands = self.hands.clone();
        // Each step begins in the letters' own order.
        let fates = stream::iter(batch.clone())
            .map(|sequence| hands.fetch(sequence))
            .buffered(AT_ONCE)
            .map(|step| async { hands.publish(step?).await })
            .buffered(AT_ONCE)
            .map(|step| async { hands.delete(step?).await })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let mut fates = std::pin::pin!(fates);
        let fates = loop {
            tokio::select! {
                fates = &mut fates => break fates?,
                () = sleep(LEASE / 3) => {
                    if let Some(trouble) = self.hands.trouble() {
                        self.held.edit().note = Some(format!("{AGAIN}{trouble}"));
                    }
                    self.held.save().await?;
                }
            }
        };
        let operation = self.held.edit();
        operation.note.take_if(|note| note.starts_with(AGAIN));
        for fate in fates {
            match fate {
                Fate::Done => operation.done += 1,
                Fate::Gone if resumed => operation.done += 1,
                Fate::Gone | Fate::Unfit => operation.skipped += 1,
                Fate::TooLarge => {
                    operation.failed += 1;
                    operation.note = Some("what failed fits into no message of the broker's".to_owned());
                }
            }
        }
        operation.cursor = batch.last().copied().unwrap_or(0).max(operation.cursor);
        operation.batch.clear();
        Ok(())
    }

    /// Waits until the stream of retries has room, if it has a size.
    pub(super) async fn room(&mut self) -> Result<(), Halt> {
        while self.sized && self.held.operation().kind == Kind::Redrive {
            let retries = self.hands.names.retries.clone();
            let info = self.hands.ask(|| self.hands.jetstream.stream(&retries)).await?;
            let most = info.config.limit("max_bytes").unwrap_or(u64::MAX);
            if info.state.bytes <= most / FULL.1 * FULL.0 {
                return Ok(());
            }
            self.held.edit().note = Some(format!("stream {retries} is nearly full: waiting for room"));
            self.held.wait(Duration::from_secs(1)).await?;
            if self.hands.stop.is_cancelled() {
                return Err(Halt::Told);
            }
        }
        Ok(())
    }
}

impl From<Lost> for Halt {
    fn from(Lost: Lost) -> Self {
        Self::Lost
    }
}
