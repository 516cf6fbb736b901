//! Why an invocation, or its callback, was given up.

use std::str::FromStr;

/// Why a message was given up: the value of the header `Queue-Worker-Cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No attempt was left.
    Exhausted,
    /// The answer is one that no retry will change.
    Refused,
    /// It is no message that a call could be made of.
    Undecodable,
    /// It is too old, or would be by the next attempt.
    Expired,
    /// Too many calls in a row were cut off.
    Interrupted,
    /// Somebody asked for it.
    Cancelled,
    /// The call ended, but its callback could not be delivered.
    Callback,
}

impl Cause {
    /// Every cause there is.
    pub const ALL: [Self; 7] = [
        Self::Exhausted,
        Self::Refused,
        Self::Undecodable,
        Self::Expired,
        Self::Interrupted,
        Self::Cancelled,
        Self::Callback,
    ];

    /// The name in the header, in log fields and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Refused => "refused",
            Self::Undecodable => "undecodable",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Callback => "callback",
        }
    }
}

/// A word that names no cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of exhausted, refused, undecodable, expired, interrupted, cancelled, callback")]
pub struct UnknownCause;

impl FromStr for Cause {
    type Err = UnknownCause;

    fn from_str(word: &str) -> Result<Self, UnknownCause> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word).ok_or(UnknownCause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_read_back_from_its_name() {
        for cause in Cause::ALL {
            assert_eq!(cause.as_str().parse(), Ok(cause));
            assert!(UnknownCause.to_string().contains(cause.as_str()));
        }
        assert_eq!("Exhausted".parse::<Cause>(), Err(UnknownCause));
        assert_eq!("".parse::<Cause>(), Err(UnknownCause));
    }
}
