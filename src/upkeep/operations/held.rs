//! An operation in a worker's hands: its record is written by nobody else as long as the lease lasts.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    broker::operations::{Known, Operations},
    message::operation::{LEASE, Operation, State},
    tasks::error_backoff::ErrorBackoff,
};

/// The lease counts as over this long before it is: what was begun before must have arrived by then.
const MARGIN: Duration = Duration::from_secs(3);
/// The pause before a word that was not taken is written again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The operation is somebody else's, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

/// An operation, and the lease on it.
#[derive(Debug)]
pub(crate) struct Held {
    store: Operations,
    known: Known,
    /// Who holds it: a name that no other process has.
    holder: String,
    /// Until when nobody else can have it.
    lease: watch::Sender<Instant>,
}

impl Held {
    /// An operation that `worker` is about to take up.
    pub fn new(store: Operations, known: Known, worker: &str) -> Self {
        let holder = format!("{worker}/{:06x}", rand::random::<u32>() >> 8);
        Self { store, known, holder, lease: watch::Sender::new(Instant::now()) }
    }

    /// The record.
    pub fn operation(&self) -> &Operation {
        &self.known.operation
    }

    /// The record, to be changed; [`save`](Self::save) writes it.
    pub fn edit(&mut self) -> &mut Operation {
        &mut self.known.operation
    }

    /// Follows the end of the lease.
    pub fn lease(&self) -> watch::Receiver<Instant> {
        self.lease.subscribe()
    }

    /// Takes it up, unless somebody was quicker.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn claim(&mut self) -> Result<(), Lost> {
        self.known.operation = self.known.operation.held_by(&self.holder, self.store.now());
        self.known.operation.updated = Some(self.store.now());
        let asked = Instant::now();
        match self.store.put(&self.known.operation, self.known.revision).await {
            Ok(Some(revision)) => {
                self.known.revision = revision;
                self.lease.send_replace(asked + LEASE.saturating_sub(MARGIN));
                Ok(())
            }
            Ok(None) => Err(Lost),
            Err(error) => {
                let Operation { queue, operation, .. } = &self.known.operation;
                tracing::warn!(queue, operation, %error, "an operation cannot be taken up");
                Err(Lost)
            }
        }
    }

    /// Writes the record, and with it prolongs the lease. Somebody may have asked to end it: then its state
    /// says so.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn save(&mut self) -> Result<(), Lost> {
        let mut pause = ErrorBackoff::new(PAUSE);
        loop {
            let (now, asked) = (self.store.now(), Instant::now());
            let operation = &mut self.known.operation;
            operation.updated = Some(now);
            operation.until = operation.worker.is_some().then(|| now + LEASE);
            match self.store.put(operation, self.known.revision).await {
                Ok(Some(revision)) => {
                    self.known.revision = revision;
                    self.lease.send_replace(asked + LEASE.saturating_sub(MARGIN));
                    return Ok(());
                }
                Ok(None) => self.catch_up().await?,
                Err(_) if self.is_over() => return Err(Lost),
                Err(_) => pause.rest().await,
            }
        }
    }

    /// Learns what stands in the place of the last word that is known: one of this worker's own whose answer
    /// was lost, or somebody's wish to end it.
    async fn catch_up(&mut self) -> Result<(), Lost> {
        let mut pause = ErrorBackoff::new(PAUSE);
        let found = loop {
            match self.store.get(&self.known.operation.operation).await {
                Ok(found) => break found.ok_or(Lost)?,
                Err(_) if self.is_over() => return Err(Lost),
                Err(_) => pause.rest().await,
            }
        };
        let mine = &mut self.known.operation;
        if found.operation.worker.as_ref() != Some(&self.holder) && found.operation != *mine {
            return Err(Lost);
        }
        if found.operation.state == State::Aborting && mine.state == State::Running {
            mine.state = State::Aborting;
        }
        self.known.revision = found.revision;
        Ok(())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= *self.lease.borrow()
    }

    /// Waits, and keeps the lease meanwhile.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn wait(&mut self, pause: Duration) -> Result<(), Lost> {
        sleep(pause).await;
        let left = self.lease.borrow().saturating_duration_since(Instant::now());
        if left < LEASE / 2 { self.save().await } else { Ok(()) }
    }
}
