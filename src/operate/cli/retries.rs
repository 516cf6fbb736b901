//! The words and flags of `queue-worker retries` and `queue-worker policy`.

use clap::{Arg, Args, Subcommand};

use super::{Choosing, Filter, choose::HOW};

/// What is to be done with retries.
#[derive(Debug, Subcommand)]
pub(crate) enum RetriesCommand {
    /// Lists retries that wait, oldest first: parked, due, or held by a pause
    #[command(mut_args(of_retries))]
    List {
        #[command(flatten)]
        filter: Filter,
        /// List this many at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Calls parked retries now, before their time
    #[command(mut_args(of_retries))]
    RunNow {
        #[command(flatten)]
        chosen: Choosing,
    },
    /// Ends parked calls without calling them: each becomes a dead letter with the cause cancelled
    #[command(mut_args(of_retries))]
    Cancel(Cancelling),
}

/// How parked calls are cancelled.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Cancelling {
    #[command(flatten)]
    pub(crate) chosen: Choosing,
    /// Only say how many are meant
    #[arg(long, help_heading = HOW)]
    pub(crate) dry_run: bool,
    /// Let a worker do it, and do not wait for the end
    #[arg(long, help_heading = HOW)]
    pub(crate) detach: bool,
    /// Why, for the record and for the dead letters
    #[arg(long, help_heading = HOW, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// What is to be said of the policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Shows when the attempts of a call would be that always fails, by the settings that this command is
    /// given: in a worker's Pod they are the worker's
    Show {
        /// The function, whose annotations the gateway is asked for with function_lookup=true
        #[arg(value_name = "FUNCTION")]
        function: Option<String>,
    },
}

/// The filter is that of dead letters, in other words: what waits has not died, and has no cause.
fn of_retries(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "cause" => arg.hide(true),
        "since" => arg.help("Those parked since: an age such as 1h, or a time in RFC 3339"),
        "before" => arg.help("Those parked before that: an age such as 10m, or a time in RFC 3339"),
        _ => arg,
    }
}

impl RetriesCommand {
    /// What clap cannot tell.
    pub(crate) fn fault(&self) -> Option<String> {
        match self {
            Self::RunNow { chosen } | Self::Cancel(Cancelling { chosen, .. }) => {
                chosen.fault().or_else(|| chosen.unlimited("retries"))
            }
            Self::List { .. } => None,
        }
    }
}
