//! The words of `calls`.

use clap::Subcommand;

/// What is to be done with a call.
#[derive(Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// Shows where a call is: waiting, running, parked, done, dead or cancelled
    Show {
        /// Its id: what X-Call-Id said to the caller
        #[arg(value_name = "CALL-ID")]
        call_id: String,
        /// Look at every message that waits, is parked or dead: sees calls that no worker has seen
        #[arg(long)]
        scan: bool,
    },
    /// Ends a call that waits, is parked or runs: it becomes a dead letter with the cause cancelled
    Cancel {
        /// Its id: what X-Call-Id said to the caller
        #[arg(value_name = "CALL-ID")]
        call_id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}
