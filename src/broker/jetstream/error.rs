//! The errors of the JetStream API.

use serde::Deserialize;

use crate::broker::seam::BrokerError;

/// JetStream's error codes that mean something to this program.
pub(crate) mod code {
    /// There is no such stream.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    /// There is a stream of this name, with other settings.
    pub(crate) const NAME_IN_USE: u64 = 10058;
    /// There is no such consumer.
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
    /// There is no such message.
    pub(crate) const NO_MESSAGE: u64 = 10037;
    /// There is no message of this sequence to delete.
    pub(crate) const NO_SEQUENCE: u64 = 10043;
    /// There is no message to delete below the stream's first one: the code of all that cannot be deleted,
    /// and what is said then.
    pub(crate) const NOT_DELETED: (u64, &str) = (10057, "no message found");
    /// The account may not use JetStream.
    pub(crate) const NO_JETSTREAM_FOR_ACCOUNT: u64 = 10039;
    /// A precondition on the last message's id does not hold.
    pub(crate) const WRONG_LAST_MSG_ID: u64 = 10070;
    /// A precondition on the last sequence does not hold.
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// The message is larger than the stream takes.
    pub(crate) const TOO_LARGE: u64 = 10054;
    /// The stream needs a size.
    pub(crate) const SIZE_REQUIRED: u64 = 10113;
    /// The stream's size is larger than the account allows for one.
    pub(crate) const SIZE_TOO_LARGE: u64 = 10122;
    /// The sizes of all streams are more than the account, or the server, may store.
    pub(crate) const NO_ROOM: [u64; 4] = [10002, 10023, 10028, 10047];
    /// There are as many streams as the account may have.
    pub(crate) const STREAMS: u64 = 10027;
    /// There are as many consumers as the account, or the stream, may have.
    pub const CONSUMERS: u64 = 10026;
    /// There are fewer servers than replicas, or the account grants fewer.
    pub(crate) const REPLICAS: [u64; 3] = [10005, 10074, 10120];
    /// The consumer may not have so many unacknowledged deliveries.
    pub(crate) const ACK_PENDING: u64 = 10121;
}

/// An error that the JetStream API answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No answer.
    #[error("{0}")]
    Silent(#[from] BrokerError),
    /// Nobody answers the API: JetStream is not enabled.
    #[error("nobody answers the JetStream API")]
    NoJetStream,
    /// The API said no.
    #[error("{description} (error {code})")]
    Refused {
        /// JetStream's own code.
        code: u64,
        /// What it says.
        description: String,
    },
}

impl ApiError {
    /// Whether it says that what was asked for is not there.
    pub(crate) fn is_absence(&self) -> bool {
        let absent = [code::STREAM_NOT_FOUND, code::CONSUMER_NOT_FOUND, code::NO_MESSAGE];
        matches!(self, Self::Refused { code, .. } if absent.contains(code))
    }
}

impl From<ApiError> for BrokerError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Silent(error) => error,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// The answer; `None` where it says that there is no such stream.
///
/// # Errors
/// Any other.
pub(crate) fn if_stream<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Err(ApiError::Refused { code: code::STREAM_NOT_FOUND, .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// The error in an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    err_code: u64,
    description: Option<String>,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let description = refusal.description.unwrap_or_else(|| "no reason given".to_owned());
        Self::Refused { code: refusal.err_code, description }
    }
}
