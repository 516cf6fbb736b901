//! How a command ends, and the exit codes that say so.

use std::process::ExitCode;

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It could not.
    #[error("{0}")]
    Cannot(String),
    /// It does not fit to how things are.
    #[error("{0}")]
    Conflict(String),
    /// There is nothing of what was asked for.
    #[error("{0}")]
    Nothing(String),
    /// It was asked in a way that means nothing, or too much.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// What the program ends with.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Cannot(_) | Self::Conflict(_) => 1,
            Self::Nothing(_) => 3,
            // `EX_USAGE` of BSD's sysexits.
            Self::Usage(_) => 64,
        })
    }
}

/// Something failed on the way.
pub(crate) fn cannot(error: impl std::fmt::Display) -> Failure {
    Failure::Cannot(error.to_string())
}
