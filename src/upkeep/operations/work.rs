//! One operation, from its claim to its end.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Worker,
    batch::Queue,
    hands::{Halt, Hands, Pace},
    held::Held,
};
use crate::{
    broker::{
        jetstream::{ApiError, code},
        operations::{Known, Operations},
        seam::Broker,
    },
    message::{
        audit::{Action, Record},
        call::why,
        letter::Letter,
        operation::State,
    },
    observe::metrics::Metrics,
};

/// An operation in the hands of this worker.
#[derive(Debug)]
pub(crate) struct Work {
    pub(super) held: Held,
    pub(super) hands: Hands,
    pub(super) queue: Option<Queue>,
    pub(super) sized: bool,
    store: Operations,
    metrics: Option<Metrics>,
}

impl Work {
    /// The operation, which is to be taken up.
    pub fn new(worker: &Worker, known: Known, stop: &CancellationToken) -> Self {
        let store = Operations::new(&worker.jetstream, &worker.names);
        let operation = &known.operation;
        let (kind, rate) = (operation.kind, operation.rate);
        let to = operation.to.as_deref().and_then(|function| function.parse().ok());
        let why = why(&operation.by, operation.reason.as_deref());
        let held = Held::new(store.clone(), known, &worker.name);
        let hands = Hands {
            jetstream: worker.jetstream.clone(),
            names: worker.names.clone(),
            kind,
            to,
            why,
            schedules: false,
            lease: held.lease(),
            stop: stop.clone(),
            trouble: Arc::default(),
            pace: Arc::new(Pace::of(rate)),
        };
        Self { held, hands, queue: None, sized: worker.sized, store, metrics: worker.metrics.clone() }
    }

    /// Takes it up, and carries it out as far as that goes. Where it is lost another worker has it.
    pub async fn carry_out(mut self) {
        if self.held.claim().await.is_err() {
            return;
        }
        self.say("Operation");
        if let Err(Halt::Told) = self.work().await {
            // Whoever takes it up next finds the batch in the record.
            self.held.edit().release();
            let _ = self.held.save().await;
            return;
        }
        if !self.held.operation().state.is_open() {
            self.say("Operation ended");
            self.tell_end().await;
            // Those that are not forgotten now are so later.
            let _ = self.store.forget().await;
        }
    }

    /// Counts its end, and records it in the audit, where there is one.
    async fn tell_end(&self) {
        let (operation, Hands { jetstream, names, .. }) = (self.held.operation(), &self.hands);
        self.metrics.iter().for_each(|metrics| metrics.operation_ended(operation.state.as_str()));
        let ended = Action { at: Some(jetstream.now()), queue: names.queue.clone(), ..operation.ended() };
        let payload = serde_json::to_vec(&Record::Action(Box::new(ended))).unwrap_or_default();
        if let Err(error) = jetstream.append(&names.audit, &names.audit_actions(), payload.into()).await {
            // Most have none. What was asked for is in the record of the operation.
            tracing::debug!(queue = names.queue, %error, "the end of an operation is not in the audit");
        }
    }

    fn say(&self, what: &str) {
        let operation = self.held.operation();
        tracing::info!(
            queue = operation.queue,
            operation = operation.operation,
            kind = operation.kind.as_str(),
            state = operation.state.as_str(),
            by = operation.by,
            matched = operation.matched,
            done = operation.done,
            skipped = operation.skipped,
            failed = operation.failed,
            note = operation.note,
            "{what}"
        );
    }

    async fn work(&mut self) -> Result<(), Halt> {
        if self.is_over().await? {
            return Ok(());
        }
        if self.hands.kind.is_of_retries() {
            let retries = self.hands.ask(|| self.hands.jetstream.stream(&self.hands.names.retries)).await?;
            self.hands.schedules = retries.config.allows_schedules();
        }
        if !self.held.operation().batch.is_empty() {
            self.settle(true).await?;
        }
        if !self.canary().await? {
            return Ok(());
        }
        loop {
            if self.is_over().await? {
                return Ok(());
            }
            self.room().await?;
            let most = self.most();
            let (letters, last) = match self.next(most).await {
                Ok(next) => next,
                Err(error) => {
                    self.missing(&error).await?;
                    continue;
                }
            };
            if letters.is_empty() && last {
                let note = self.held.operation().note.clone();
                self.held.edit().end(State::Done, note);
                return Ok(self.held.save().await?);
            }
            self.begin(&letters).await?;
            self.settle(false).await?;
        }
    }

    /// Writes down which letters are done next.
    pub(super) async fn begin(&mut self, letters: &[Letter]) -> Result<(), Halt> {
        self.held.edit().batch = letters.iter().map(|letter| letter.sequence).collect();
        Ok(self.held.save().await?)
    }

    /// The letters could not be read: they are tried again, unless there is no stream of them any more.
    pub(super) async fn missing(&mut self, error: &ApiError) -> Result<(), Halt> {
        self.queue = None;
        if matches!(error, ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) {
            let note = format!("what it is about cannot be read: {error}");
            self.held.edit().end(State::Stopped, Some(note));
            self.held.save().await?;
        }
        Ok(self.held.wait(std::time::Duration::from_millis(500)).await?)
    }

    /// Whether no more is to be done now: it ended, or somebody asked to end it, or this worker drains.
    pub(super) async fn is_over(&mut self) -> Result<bool, Halt> {
        if self.hands.stop.is_cancelled() {
            return Err(Halt::Told);
        }
        match self.held.operation().state {
            State::Aborting => {
                self.held.edit().end(State::Aborted, None);
                self.held.save().await?;
                Ok(true)
            }
            state => Ok(!state.is_open()),
        }
    }
}
