//! The letters that go first. The others follow only where enough of these succeeded.

use std::time::Duration;

use super::{hands::Halt, work::Work};
use crate::{
    broker::{
        jetstream::{ApiError, call::Details},
        walk::Walk,
    },
    message::{
        envelope::{Envelope, Kind},
        letter::{Letter, Place},
        names::{HALF_LIFE, Names},
        operation::{Sent, State},
    },
};

/// How often it is asked whether they have ended.
const LOOK: Duration = Duration::from_millis(500);

impl Work {
    /// Sends them, if there are to be any, and waits for their ends. Says whether the others may follow.
    pub(super) async fn canary(&mut self) -> Result<bool, Halt> {
        let Some(canary) = self.held.operation().canary.clone().filter(|canary| !canary.passed) else {
            return Ok(true);
        };
        if canary.sent.is_empty() {
            self.send(canary.calls as usize).await?;
        }
        let mut ended = 0;
        loop {
            if self.is_over().await? {
                return Ok(false);
            }
            let Some(canary) = self.held.operation().canary.clone() else { return Ok(true) };
            while let Some(sent) = canary.sent.get(ended) {
                if !self.hands.ask(|| self.has_ended(sent)).await? {
                    break;
                }
                ended += 1;
            }
            if ended == canary.sent.len() {
                let failed = self.hands.ask(|| self.failed(&canary.sent, canary.before)).await?;
                let (passes, words) = canary.judge(ended - failed);
                return self.judged(passes, words).await;
            }
            self.held.wait(LOOK).await?;
        }
    }

    /// Sends the first letters: all that are to be sent, or all that there are.
    async fn send(&mut self, many: usize) -> Result<(), Halt> {
        let mut letters = Vec::new();
        loop {
            match self.next(many - letters.len()).await {
                Ok((some, last)) => {
                    letters.extend(some);
                    if last || letters.len() >= many {
                        break;
                    }
                }
                Err(error) => self.missing(&error).await?,
            }
            self.held.wait(Duration::ZERO).await?;
            if self.is_over().await? {
                return Ok(());
            }
        }
        let dead = self.hands.names.dead.clone();
        let before = self.hands.ask(|| self.hands.jetstream.stream(&dead)).await?.state.last_seq;
        let mut sent = Vec::with_capacity(letters.len());
        for letter in &letters {
            sent.extend(self.to_be_sent(letter).await?);
        }
        if let Some(canary) = &mut self.held.edit().canary {
            (canary.sent, canary.before) = (sent, before);
        }
        self.begin(&letters).await?;
        self.settle(false).await?;
        Ok(self.held.save().await?)
    }

    /// What a letter will be when it is sent round again; nothing where it cannot be.
    async fn to_be_sent(&self, letter: &Letter) -> Result<Option<Sent>, Halt> {
        let names = &self.hands.names;
        let asked = self.hands.ask(|| self.hands.jetstream.stored(&names.dead, letter.sequence)).await?;
        let message = asked.and_then(|stored| self.hands.message(stored));
        Ok(message.map(|message| {
            let again = message.envelope.redriven(letter.failed_at);
            Sent {
                function: message.token().to_owned(),
                origin: letter.original_id.clone(),
                generation: again.generation,
                redrives: again.redrives.unwrap_or_default(),
                callback: letter.is_callback,
            }
        }))
    }

    /// Whether nothing is under way any more of what was sent. A callback that waits says that the call has
    /// ended.
    async fn has_ended(&self, sent: &Sent) -> Result<bool, ApiError> {
        let (names, Some(id)) = (&self.hands.names, sent.id()) else { return Ok(true) };
        let clones = names.clones(&sent.function, id);
        let details = Details { subjects_filter: Some(&clones), ..Details::default() };
        let info = self.hands.jetstream.stream_with(&names.retries, &details).await?;
        let is_of_this_life = |subject: &&String| {
            Names::generation_of(subject)
                .is_some_and(|generation| generation / HALF_LIFE == sent.generation / HALF_LIFE)
        };
        for subject in info.state.subjects.keys().filter(is_of_this_life) {
            let Some(stored) = self.hands.jetstream.last_stored(&names.retries, subject).await? else {
                continue;
            };
            let told = Envelope::told(&names.retries, stored.sequence, stored.time, &stored.headers());
            if sent.callback || told.kind != Kind::Callback {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many of those that were sent are dead again.
    async fn failed(&self, sent: &[Sent], before: u64) -> Result<usize, ApiError> {
        let dead = &self.hands.names.dead;
        let last = self.hands.jetstream.stream(dead).await?.state.last_seq;
        let mut walk = Walk::new(&self.hands.jetstream, (dead, ">"), before + 1, last, None);
        let mut failed = 0;
        loop {
            let seen = walk.next().await?;
            if seen.is_empty() {
                return Ok(failed);
            }
            for one in seen {
                let place = Place {
                    stream: dead,
                    subject: &one.subject,
                    sequence: one.sequence,
                    stored: one.stored,
                    bytes: one.bytes,
                };
                let letter = Letter::read(place, &one.headers);
                failed += usize::from(sent.iter().any(|sent| sent.is_ended_by(&letter)));
            }
        }
    }

    async fn judged(&mut self, passes: bool, words: String) -> Result<bool, Halt> {
        let operation = self.held.edit();
        if let Some(canary) = &mut operation.canary {
            canary.passed = passes;
            canary.sent.clear();
        }
        if passes {
            operation.note = Some(words);
        } else {
            operation.end(State::Stopped, Some(words));
        }
        self.held.save().await?;
        Ok(passes)
    }
}
