//! A message as it is stored: JetStream's API gives it in JSON, with its header block as it is, which no
//! parser of the client's has touched.

use std::time::SystemTime;

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use futures_util::future::try_join_all;

use super::{
    ApiError, JetStream,
    answers::{MessageAnswer, StoredMessage},
    call::{self, Deletion, Which},
    code,
};
use crate::{
    broker::seam::BrokerError,
    message::{arrival::Arrival, header_block, names},
};

/// No message of any stream has an earlier sequence.
const FIRST: u64 = 1;
/// Covers all subjects.
const ALL: &str = ">";

/// A message as it is stored.
#[derive(Clone)]
pub struct Stored {
    /// The subject that it was published on.
    pub subject: String,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub time: SystemTime,
    /// Its header block; empty where it has none.
    pub block: Bytes,
    /// Its payload.
    pub payload: Bytes,
}

impl Stored {
    /// The message of an answer. That there is none is an answer, too, but any other refusal is none.
    fn read(answer: Result<MessageAnswer, ApiError>) -> Result<Option<Self>, ApiError> {
        let StoredMessage { subject, seq, hdrs, data, time } = match answer {
            Ok(answer) => answer.message,
            Err(ApiError::Refused { code: code::NO_MESSAGE, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = |text: String| BASE64_STANDARD.decode(text).unwrap_or_default().into();
        let time = time.ok_or_else(|| BrokerError::Unavailable("a message without its time".to_owned()))?;
        Ok(Some(Self { subject, sequence: seq, time, block: bytes(hdrs), payload: bytes(data) }))
    }

    /// Its headers, less the broker's own, as far as they can be read.
    pub fn headers(&self) -> HeaderMap {
        header_block::own(&self.block)
    }

    /// The same, as if it had been delivered from this stream.
    pub fn arrival(self, stream: &str) -> Arrival {
        let headers = self.headers();
        let Self { subject, sequence, time, payload, .. } = self;
        Arrival { subject, headers, payload, stream: stream.into(), sequence, stored: time }
    }
}

impl JetStream {
    /// The first message from `sequence` on that `filter` covers, if there is one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn next_stored(
        &self,
        stream: &str,
        filter: &str,
        sequence: u64,
    ) -> Result<Option<Stored>, ApiError> {
        let next = |sequence, filter| {
            self.get(stream, Which { seq: Some(sequence), next_by_subj: Some(filter), ..Which::default() })
        };
        if sequence > FIRST {
            return next(sequence, filter).await;
        }
        // From a stream's first message on, the server counts all that a filter covers before it looks for
        // one: 0.1 s and more with 200,000 parked, while nothing else is stored. Of all it counts none.
        match next(FIRST, ALL).await? {
            Some(first) if !names::covers(filter, &first.subject) => next(first.sequence + 1, filter).await,
            first => Ok(first),
        }
    }

    /// The same, whichever of the filters covers it.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn next_of(
        &self,
        stream: &str,
        filters: &[String],
        sequence: u64,
    ) -> Result<Option<Stored>, ApiError> {
        let asked = filters.iter().map(|filter| self.next_stored(stream, filter, sequence));
        let found = try_join_all(asked).await?;
        Ok(found.into_iter().flatten().min_by_key(|stored| stored.sequence))
    }

    /// The last message that `filter` covers, if there is one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn last_stored(&self, stream: &str, filter: &str) -> Result<Option<Stored>, ApiError> {
        self.get(stream, Which { last_by_subj: Some(filter), ..Which::default() }).await
    }

    /// The message of this sequence, if it is still there.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn stored(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
        self.get(stream, Which { seq: Some(sequence), ..Which::default() }).await
    }

    async fn get(&self, stream: &str, which: Which<'_>) -> Result<Option<Stored>, ApiError> {
        Stored::read(self.api(&call::message(stream), &which).await)
    }

    /// Deletes a message, if it is still there.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn delete(&self, stream: &str, sequence: u64) -> Result<(), ApiError> {
        let deletion = Deletion { seq: sequence, no_erase: true };
        match self.api::<serde::de::IgnoredAny>(&call::delete_message(stream), &deletion).await {
            Ok(_) | Err(ApiError::Refused { code: code::NO_MESSAGE | code::NO_SEQUENCE, .. }) => Ok(()),
            Err(ApiError::Refused { code, description })
                if (code, description.as_str()) == code::NOT_DELETED =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(code: u64) -> ApiError {
        ApiError::Refused { code, description: "no".to_owned() }
    }

    fn answer(text: &str) -> MessageAnswer {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_the_answer_that_there_is_no_message_counts_as_none() {
        assert!(matches!(Stored::read(Err(refused(code::NO_MESSAGE))), Ok(None)));
        let others = [code::STREAM_NOT_FOUND, code::NO_JETSTREAM_FOR_ACCOUNT, 10008, 0].map(refused);
        for error in others.into_iter().chain([ApiError::NoJetStream]) {
            assert_eq!(Stored::read(Err(error.clone())).map(drop), Err(error));
        }
    }

    #[test]
    fn a_message_is_read_with_its_block_and_its_payload() {
        let stored = Stored::read(Ok(answer(
            r#"{"message":{"subject":"q","seq":7,"hdrs":"TkFUUy8xLjANClg6IGENCg0K","data":"aGk=","time":"1970-01-01T00:00:09Z"}}"#,
        )))
        .unwrap()
        .unwrap();
        assert_eq!((stored.subject.as_str(), stored.sequence, &*stored.payload), ("q", 7, b"hi".as_slice()));
        assert_eq!(stored.time, SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        assert_eq!(stored.headers().get("X").unwrap().as_str(), "a");
        let bare = answer(r#"{"message":{"subject":"q","seq":7,"time":"1970-01-01T00:00:09Z"}}"#);
        assert!(Stored::read(Ok(bare)).unwrap().unwrap().block.is_empty());
        assert!(Stored::read(Ok(answer(r#"{"message":{"subject":"q","seq":7}}"#))).is_err());
    }
}
