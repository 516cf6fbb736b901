//! A message as it is stored: JetStream's API gives it in JSON, with its header block as it is, which no
//! parser of the client's has touched.

use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{ApiError, JetStream, code};

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
    fn read(answer: &Value) -> Option<Self> {
        let message = answer.get("message")?;
        let bytes = |name: &str| {
            message.get(name).and_then(Value::as_str).and_then(|text| BASE64_STANDARD.decode(text).ok())
        };
        Some(Self {
            subject: message.get("subject")?.as_str()?.to_owned(),
            sequence: message.get("seq")?.as_u64()?,
            time: message
                .get("time")
                .and_then(Value::as_str)
                .and_then(|time| humantime::parse_rfc3339(time).ok())?,
            block: bytes("hdrs").unwrap_or_default().into(),
            payload: bytes("data").unwrap_or_default().into(),
        })
    }
}

impl JetStream {
    /// The first message from `sequence` on that `filter` covers, if there is one.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn next_stored(
        &self,
        stream: &str,
        filter: &str,
        sequence: u64,
    ) -> Result<Option<Stored>, ApiError> {
        match self
            .api(&format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": sequence, "next_by_subj": filter }))
            .await
        {
            Ok(answer) => Ok(Stored::read(&answer)),
            Err(ApiError::Refused { code: code::NO_MESSAGE, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
