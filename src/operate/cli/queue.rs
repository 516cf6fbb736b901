//! The words and flags of `queue-worker queue`.

use clap::{Args, Subcommand};

/// What is to be done with a queue.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Says what waits, runs, is parked, held and dead, and what is paused
    Stats,
    /// Lets no new call begin, on any worker, until it is resumed; running calls end
    Pause {
        #[command(flatten)]
        which: Pausing,
        /// Why, for those who wonder
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Ends a pause
    Resume {
        #[command(flatten)]
        which: Pausing,
    },
}

/// What is meant: the queue, or a function of it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Pausing {
    /// Only this function of the queue, such as f or f.openfaas-fn
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) function: Option<String>,
}

/// A call that is to be queued.
#[derive(Debug, Clone, Args)]
pub(crate) struct Invoking {
    /// The function, and a path and a query behind its name if wanted: resize/thumb?width=80
    #[arg(value_name = "FUNCTION")]
    pub(crate) function: String,
    /// The body: a text, @FILE, or - for the standard input
    #[arg(long, value_name = "BODY", allow_hyphen_values = true)]
    pub(crate) body: Option<String>,
    /// A header, such as 'X-Callback-Url: http://…'; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Wait for its end
    #[arg(long)]
    pub(crate) wait: bool,
}
