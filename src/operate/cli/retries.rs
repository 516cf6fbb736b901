//! The words and flags of `queue-worker retries` and `queue-worker policy`.

use clap::Subcommand;

use super::{Choosing, Filter};

/// What is to be done with retries.
#[derive(Debug, Subcommand)]
pub(crate) enum RetriesCommand {
    /// Lists retries that wait, oldest first: parked, due, or held by a pause
    List {
        #[command(flatten)]
        filter: Filter,
        /// List this many at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Calls parked retries now, before their time
    RunNow {
        #[command(flatten)]
        chosen: Choosing,
    },
}

/// What is to be said of the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Shows when the attempts of a call would be that always fails, by these settings
    Show {
        /// The function, whose annotations the gateway is asked for with function_lookup=true
        #[arg(value_name = "FUNCTION")]
        function: Option<String>,
    },
}

impl RetriesCommand {
    /// What clap cannot tell.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::RunNow { chosen } => chosen.fault().or_else(|| chosen.unlimited()),
            Self::List { .. } => None,
        }
    }
}
