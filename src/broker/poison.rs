//! Messages that the NATS client cannot read.
//!
//! A server takes any bytes for a header block. The client library ends the connection at one that it does
//! not understand, or its own task, and does not say why; the message is delivered again after `ack_wait`, to
//! this worker or the next, without end. So whoever finds the connection ended for no reason that can be seen
//! looks, before it asks for more, at what its consumer has given out:
//!
//! ```text
//!  cut ─▶ connected again ─▶ what is unacknowledged, read through the API ─▶ readable? ─yes─▶ leave it
//!                                                                              │ no
//!                                          pull ◀─ acknowledge ◀─ dead letter ◀┘
//! ```
//!
//! The API gives messages in JSON, with their block in base64. Messages that came through whole a moment
//! ago are not looked at. A long look is done in rounds, with requests for messages in between, so that it
//! holds up nobody.

mod burial;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

pub(crate) use burial::Burial;

use crate::{
    broker::{
        connect::Link,
        consumer::Bound,
        jetstream::{ApiError, JetStream, Stored},
    },
    message::{
        header_block::{self, Flaw},
        names::covers,
    },
};

/// The most messages and bytes that one round looks at, and how long.
const ROUND: (usize, usize, Duration) = (4_096, 64 << 20, Duration::from_secs(1));
/// So many of the last messages that came through are remembered.
const REMEMBERED: usize = 1 << 10;
/// The pause before a look that failed is tried again, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The search for what cannot be read among what one consumer has given out.
#[derive(Debug)]
pub(crate) struct Search {
    jetstream: JetStream,
    bound: Bound,
    burial: Burial,
    cuts: u64,
    moves: u64,
    passed: Recent,
    /// Messages that were buried lately: where a stream keeps settled ones, they are seen again, and get no
    /// second letter.
    buried: Recent,
    sweep: Option<Sweep>,
    /// Where the next look begins: what lies before was looked at, and stays as it is. A level may hold a
    /// million, and be cut off at each round.
    from: u64,
    /// When a look that failed is tried again, and how long the pause was.
    again: Option<(Instant, Duration)>,
}

/// A look at what is unacknowledged, which goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Sweep {
    /// How many were found.
    found: usize,
    /// Whether one of them could not be buried.
    left: bool,
}

impl Search {
    /// A search of what `bound` has given out.
    pub fn new(jetstream: &JetStream, bound: &Bound, burial: Burial) -> Self {
        let (jetstream, bound) = (jetstream.clone(), bound.clone());
        let (passed, buried) = (Recent::default(), Recent::default());
        Self {
            jetstream,
            bound,
            burial,
            cuts: 0,
            moves: 0,
            passed,
            buried,
            sweep: None,
            from: 0,
            again: None,
        }
    }

    /// Notes a message that came through whole.
    pub fn passed(&mut self, sequence: u64) {
        self.passed.note(sequence);
    }

    /// Notes the connection on which the next request is sent.
    pub fn connected(&mut self, link: &Link) {
        // Another server, or the same started again, may know other messages by these numbers.
        if std::mem::replace(&mut self.moves, link.moves) < link.moves {
            (self.passed, self.buried, self.from) = (Recent::default(), Recent::default(), 0);
        }
        if std::mem::replace(&mut self.cuts, link.cuts) < link.cuts {
            self.sweep = Some(Sweep::default());
            self.again = None;
        }
    }

    /// Does a round of the look, if one is to be done. One that fails is done again later, and holds up
    /// nothing meanwhile.
    pub async fn round(&mut self) {
        if self.again.is_some_and(|(at, _)| Instant::now() >= at) {
            self.sweep = Some(Sweep::default());
        }
        let Some(mut sweep) = self.sweep.take() else { return };
        match self.walk(&mut sweep).await {
            Ok(false) => self.sweep = Some(sweep),
            Ok(true) if !sweep.left => {
                self.again = None;
                // Where none was found the reason may be among those that were passed over.
                if sweep.found == 0 {
                    (self.passed, self.from) = (Recent::default(), 0);
                }
            }
            failed => {
                self.from = 0;
                let (first, most) = BACKOFF;
                let pause = self.again.map_or(first, |(_, pause)| (pause * 2).min(most));
                self.again = Some((Instant::now() + pause, pause));
                if let Err(error) = failed {
                    let (stream, consumer) = (&*self.bound.stream, &self.bound.consumer);
                    tracing::warn!(stream, consumer, %error, "what cut the connection was not looked for");
                }
            }
        }
    }

    /// Looks at the next unacknowledged messages, and says whether they were the last.
    async fn walk(&mut self, sweep: &mut Sweep) -> Result<bool, ApiError> {
        let Self { jetstream, bound, burial, passed, buried, from, .. } = self;
        let began = Instant::now();
        let info = jetstream.consumer(&bound.stream, &bound.consumer).await?;
        if info.num_ack_pending == 0 {
            return Ok(true);
        }
        let (floor, last) = (info.ack_floor.stream_seq, info.delivered.stream_seq);
        *from = (*from).max(floor.saturating_add(1));
        let filters = info.config.filters();
        let filter = if let [filter] = filters.as_slice() { filter } else { ">" };
        let mut bytes = 0;
        for _ in 0..ROUND.0 {
            *from = passed.skip(*from);
            if *from > last || bytes > ROUND.1 || began.elapsed() > ROUND.2 {
                return Ok(*from > last);
            }
            let next = jetstream.next_stored(&bound.stream, filter, *from).await?;
            let Some(stored) = next.filter(|stored| stored.sequence <= last) else { return Ok(true) };
            bytes += stored.payload.len() + stored.block.len();
            *from = stored.sequence + 1;
            let Err(flaw) = readable(&stored, &filters) else { continue };
            sweep.found += 1;
            let ended = if buried.has(stored.sequence) {
                burial.take_out(jetstream, bound, stored.sequence).await
            } else {
                burial.bury(jetstream, bound, &stored, flaw, info.delivered.consumer_seq).await
            };
            match ended {
                Ok(()) => buried.note(stored.sequence),
                Err(error) => {
                    sweep.left = true;
                    let (stream, sequence) = (&*bound.stream, stored.sequence);
                    tracing::error!(stream, sequence, %error, "it could not be buried; trying again");
                }
            }
        }
        Ok(false)
    }
}

/// Whether the client library can read a message, if it is one of the consumer's.
fn readable(stored: &Stored, filters: &[&str]) -> Result<(), Flaw> {
    if !filters.iter().any(|filter| covers(filter, &stored.subject)) {
        return Ok(());
    }
    header_block::subject(&stored.subject, !stored.block.is_empty())?;
    if stored.block.is_empty() { Ok(()) } else { header_block::read(&stored.block).map(drop) }
}

/// The last messages of a kind, by their sequences.
#[derive(Debug, Default)]
struct Recent(BTreeSet<u64>);

impl Recent {
    fn note(&mut self, sequence: u64) {
        self.0.insert(sequence);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    fn has(&self, sequence: u64) -> bool {
        self.0.contains(&sequence)
    }

    /// The first of `next` and its successors that is none of them.
    fn skip(&self, next: u64) -> u64 {
        self.0
            .range(next..)
            .zip(next..)
            .take_while(|(passed, wanted)| *passed == wanted)
            .last()
            .map_or(next, |(_, passed)| passed + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_through_is_passed_over() {
        let mut passed = Recent::default();
        for sequence in [5, 6, 7, 9] {
            passed.note(sequence);
        }
        for (next, expected) in [(1, 1), (5, 8), (6, 8), (8, 8), (9, 10), (10, 10)] {
            assert_eq!(passed.skip(next), expected, "{next}");
        }
        for sequence in 100..100 + REMEMBERED as u64 {
            passed.note(sequence);
        }
        assert_eq!(
            (passed.0.len(), passed.skip(9), passed.skip(100)),
            (REMEMBERED, 9, 100 + REMEMBERED as u64)
        );
    }
}
