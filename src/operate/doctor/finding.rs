//! The findings of the checks.

use crate::broker::known_issues::Severity;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The thing that was looked at.
    pub what: String,
    /// Its state.
    pub seen: String,
    /// Its meaning for the guarantee; empty where all is as it should be.
    pub means: String,
    /// The command, or the setting, that mends it.
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            severity: Severity::Ok,
            what: what.into(),
            seen: seen.into(),
            means: String::new(),
            mend: None,
        }
    }

    /// Not as it should be.
    pub fn new(
        severity: Severity,
        what: impl Into<String>,
        seen: impl Into<String>,
        means: impl Into<String>,
    ) -> Self {
        Self { severity, means: means.into(), ..Self::ok(what, seen) }
    }

    /// With what mends it.
    pub fn mend(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}
