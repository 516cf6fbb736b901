//! Publishes into a stream, and reads the broker's word that the message is stored.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{ApiError, JetStream, Unanswered, answers::PubAck, code, parse};
use crate::{
    broker::seam::BrokerError,
    message::{
        header::put,
        names::{
            EXPECTED_LAST, EXPECTED_LAST_OF_ALL, EXPECTED_LAST_ON, EXPECTED_STREAM, MESSAGE_ID,
            SCHEDULE_NEXT, SCHEDULER,
        },
        record::Record,
    },
};

/// The end of a publish that was not refused.
pub(super) enum Taken {
    /// It is stored, under this sequence.
    New(u64),
    /// Its id was known, and its message was stored under this sequence.
    Duplicate(u64),
    /// A precondition does not hold: this one, by its error's code.
    Unmet(u64),
}

impl JetStream {
    /// Publishes, and reads the broker's acknowledgement.
    pub(super) async fn store(
        &self,
        stream: &str,
        subject: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Taken, BrokerError> {
        put(&mut headers, EXPECTED_STREAM, stream);
        let answer = self.request(subject, headers, payload).await.map_err(|error| match error {
            Unanswered::NoResponders => BrokerError::Unavailable(format!("no stream takes {subject}")),
            Unanswered::Other(error) => error,
        })?;
        let ack: PubAck = parse(&answer)?;
        if let Some(refusal) = ack.error {
            return match refusal.into() {
                ApiError::Refused { code: code::TOO_LARGE, .. } => Err(BrokerError::TooLarge),
                ApiError::Refused {
                    code: unmet @ (code::WRONG_LAST_MSG_ID | code::WRONG_LAST_SEQUENCE),
                    ..
                } => Ok(Taken::Unmet(unmet)),
                ApiError::Refused { description, .. } => Err(BrokerError::Refused(description)),
                error => Err(error.into()),
            };
        }
        if ack.stream != stream {
            return Err(BrokerError::Refused(format!(
                "the message for stream {stream} was taken by another"
            )));
        }
        Ok(if ack.duplicate { Taken::Duplicate(ack.seq) } else { Taken::New(ack.seq) })
    }

    /// Stores a record, and says whether it is new: not so if its id is stored or was lately.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn deposit(&self, record: &Record) -> Result<bool, BrokerError> {
        let (_, duplicate) = self.enqueue(record.clone()).await?;
        Ok(!duplicate)
    }

    /// Stores a record, and says under which sequence, and whether it was stored there before.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn enqueue(&self, record: Record) -> Result<(u64, bool), BrokerError> {
        let Record { stream, subject, id, mut headers, payload } = record;
        put(&mut headers, MESSAGE_ID, &id);
        match self.store(&stream, &subject, headers, payload).await? {
            Taken::New(sequence) => Ok((sequence, false)),
            Taken::Duplicate(sequence) => Ok((sequence, true)),
            Taken::Unmet(code) => Err(unasked(code)),
        }
    }

    /// Adds a payload to a stream, and returns its sequence.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn append(
        &self,
        stream: &str,
        subject: &str,
        payload: Bytes,
    ) -> Result<u64, BrokerError> {
        match self.store(stream, subject, HeaderMap::new(), payload).await? {
            Taken::New(sequence) | Taken::Duplicate(sequence) => Ok(sequence),
            Taken::Unmet(code) => Err(unasked(code)),
        }
    }

    /// Puts a payload in the place of the one on that subject, unless that is another than the one of the
    /// sequence `last` (0: none), or the stream has taken something behind the sequence `of_all`. Returns its
    /// own sequence, or `None` where such a condition does not hold.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn replace(
        &self,
        stream: &str,
        subject: &str,
        last: u64,
        of_all: Option<u64>,
        payload: Bytes,
    ) -> Result<Option<u64>, BrokerError> {
        let mut headers = HeaderMap::new();
        put(&mut headers, EXPECTED_LAST, &last.to_string());
        if let Some(of_all) = of_all {
            put(&mut headers, EXPECTED_LAST_OF_ALL, &of_all.to_string());
        }
        match self.store(stream, subject, headers, payload).await? {
            Taken::New(sequence) | Taken::Duplicate(sequence) => Ok(Some(sequence)),
            Taken::Unmet(_) => Ok(None),
        }
    }

    /// Moves a scheduled message to its target, unless it is gone or another took its place: `sequence` is
    /// what was seen. Only for a server that knows schedules.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn fire(
        &self,
        stream: &str,
        scheduled: &str,
        target: &str,
        sequence: u64,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<bool, BrokerError> {
        put(&mut headers, SCHEDULER, scheduled);
        put(&mut headers, SCHEDULE_NEXT, "purge");
        put(&mut headers, EXPECTED_LAST, &sequence.to_string());
        put(&mut headers, EXPECTED_LAST_ON, scheduled);
        let taken = self.store(stream, target, headers, payload).await?;
        Ok(!matches!(taken, Taken::Unmet(_)))
    }
}

/// The broker complains of a precondition that nobody set.
pub(super) fn unasked(code: u64) -> BrokerError {
    BrokerError::Refused(format!("a precondition that was not set (error {code})"))
}
