//! The stream of operations: a record each, the latest word about it. Whoever writes one says which word it
//! knows, so that nobody overwrites what another wrote meanwhile.

use std::time::SystemTime;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, Stored, if_stream},
        seam::{Broker, BrokerError},
    },
    message::{names::Names, operation::Operation},
};

/// So many records of ended operations are kept.
const KEPT: usize = 100;

/// The operations of a queue.
#[derive(Debug, Clone)]
pub struct Operations {
    jetstream: JetStream,
    names: Names,
}

/// A record, and the sequence that it lies under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it says.
    pub operation: Operation,
    /// Its sequence: the one that whoever writes the next word has to know.
    pub revision: u64,
}

impl Operations {
    /// Those of this queue.
    pub(crate) fn new(jetstream: &JetStream, names: &Names) -> Self {
        Self { jetstream: jetstream.clone(), names: names.clone() }
    }

    /// The broker's time.
    pub fn now(&self) -> SystemTime {
        self.jetstream.now()
    }

    /// All of them, the one that was silent for longest first. There are none where there is no stream.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn all(&self) -> Result<Vec<Known>, ApiError> {
        let (mut all, mut from) = (Vec::new(), 1);
        let subjects = self.names.operations_subjects();
        while let Some(stored) =
            if_stream(self.jetstream.next_stored(&self.names.operations, &subjects, from).await)?.flatten()
        {
            from = stored.sequence + 1;
            all.extend(known(&stored));
        }
        Ok(all)
    }

    /// The word that was written last, and the operation that it is about, if it is about one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn latest(&self) -> Result<Option<(u64, Option<Known>)>, ApiError> {
        let subjects = self.names.operations_subjects();
        let stored = if_stream(self.jetstream.last_stored(&self.names.operations, &subjects).await)?;
        Ok(stored.flatten().map(|stored| (stored.sequence, known(&stored))))
    }

    /// The one of this id.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Known>, ApiError> {
        let subject = self.names.operation(id);
        let stored = if_stream(self.jetstream.last_stored(&self.names.operations, &subject).await)?;
        Ok(stored.flatten().as_ref().and_then(known))
    }

    /// Writes the first word, unless the stream has taken any other behind the sequence `of_all`.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn make(&self, operation: &Operation, of_all: u64) -> Result<Option<u64>, BrokerError> {
        self.write(operation, 0, Some(of_all)).await
    }

    /// Writes the next word, unless somebody else did. Returns its revision.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn put(&self, operation: &Operation, revision: u64) -> Result<Option<u64>, BrokerError> {
        self.write(operation, revision, None).await
    }

    async fn write(
        &self,
        operation: &Operation,
        revision: u64,
        of_all: Option<u64>,
    ) -> Result<Option<u64>, BrokerError> {
        // Strings and numbers are all there is to write, and memory to write to does not fail.
        let payload = serde_json::to_vec(operation).unwrap_or_default();
        let subject = self.names.operation(&operation.operation);
        self.jetstream.replace(&self.names.operations, &subject, revision, of_all, payload.into()).await
    }

    /// Forgets those that ended longest ago, if they are many.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn forget(&self) -> Result<(), ApiError> {
        let ended: Vec<_> =
            self.all().await?.into_iter().filter(|known| !known.operation.state.is_open()).collect();
        let many = ended.len().saturating_sub(KEPT);
        for known in ended.into_iter().take(many) {
            self.jetstream.delete(&self.names.operations, known.revision).await?;
        }
        Ok(())
    }
}

/// A record, where it is one.
fn known(stored: &Stored) -> Option<Known> {
    let operation = serde_json::from_slice(&stored.payload).ok()?;
    Some(Known { operation, revision: stored.sequence })
}
