//! The words of `audit`.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use super::choose::{Moment, cause};
use crate::message::audit::COMPLETED;

/// What is to be read of the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Shows the last records
    Tail {
        /// Show this many
        #[arg(long, value_name = "N", default_value_t = 20,
            value_parser = clap::value_parser!(u64).range(1..=10_000))]
        limit: u64,
        /// Go on with what comes, until you end it; with --output json an object a line
        #[arg(long, short)]
        follow: bool,
    },
    /// Shows the records that fit, oldest first
    Search(Searching),
}

/// Which records are meant: those that fit all that is said.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Searching {
    /// Those of this call; found by an index
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) call_id: Option<String>,
    /// Those of this function
    #[arg(long, value_name = "FUNCTION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) function: Option<String>,
    /// Those of calls that ended so: completed, or a cause such as exhausted
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub(crate) outcome: Option<String>,
    /// Those of what operators did: redrive, discard, resume, abort, ended, cancel, run-now, pause, purge,
    /// purge-drop, or any
    #[arg(long, value_name = "ACTION", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) action: Option<String>,
    /// Those of what somebody did whose name has this text in it
    #[arg(long, value_name = "WHO", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) by: Option<String>,
    /// Those since: an age such as 1h, or a time in RFC 3339
    #[arg(long, value_name = "AGE")]
    pub(crate) since: Option<Moment>,
    /// Those before that: an age such as 10m, or a time in RFC 3339
    #[arg(long, value_name = "AGE")]
    pub(crate) before: Option<Moment>,
    /// Show this many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// Reads how a call ended.
///
/// # Errors
/// What is expected.
pub(crate) fn outcome(text: &str) -> Result<String, String> {
    if text == COMPLETED {
        return Ok(text.to_owned());
    }
    cause(text).map_err(|error| format!("{error}, or {COMPLETED}"))
}
