//! What a message is, and how its payload is stored.

/// The kind of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A call to be made.
    Invocation,
    /// The answer of a call that ended, to be posted to the URL that the caller asked for.
    Callback,
    /// Something of another version's, in its own word.
    Unknown(String),
}

impl Kind {
    pub(super) fn read(text: Option<&str>) -> Self {
        match text {
            None => Self::Invocation,
            Some("callback") => Self::Callback,
            Some(other) => Self::Unknown(other.to_owned()),
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Invocation => None,
            Self::Callback => Some("callback"),
            Self::Unknown(other) => Some(other),
        }
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it arrived.
    Plain,
    /// Compressed, because it would not have fitted.
    Gzip,
}
