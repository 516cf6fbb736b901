//! Publishes into a stream, and reads the broker's word that the message is stored.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{ApiError, Head, JetStream, Unanswered, answers::PubAck, code, parse};
use crate::{
    broker::seam::BrokerError,
    message::{
        header::put,
        names::{EXPECTED_LAST, EXPECTED_LAST_ON, EXPECTED_STREAM, MESSAGE_ID, SCHEDULE_NEXT, SCHEDULER},
        record::Record,
    },
};

/// The end of a publish that was not refused.
pub(super) enum Taken {
    /// It is stored.
    New,
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
        if let Some(refusal) = parse::<Head>(&answer)?.error {
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
        let ack: PubAck = parse(&answer)?;
        if ack.stream != stream {
            return Err(BrokerError::Refused(format!(
                "the message for stream {stream} was taken by another"
            )));
        }
        Ok(if ack.duplicate { Taken::Duplicate(ack.seq) } else { Taken::New })
    }

    /// Stores a record, and says whether it is new: not so if its id is stored or was lately.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn deposit(&self, record: &Record) -> Result<bool, BrokerError> {
        let mut headers = record.headers.clone();
        put(&mut headers, MESSAGE_ID, &record.id);
        match self.store(&record.stream, &record.subject, headers, record.payload.clone()).await? {
            Taken::New => Ok(true),
            Taken::Duplicate(_) => Ok(false),
            Taken::Unmet(code) => Err(unasked(code)),
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
