//! The words and flags of `queue-worker queue`.

use clap::{Args, Subcommand};

/// What is to be done with a queue.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Says what waits, runs, is parked, held and dead, and what is paused
    Stats,
    /// Lets no new call begin, on any worker, from a second later until it is resumed; running calls end
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
    /// Takes calls away that wait for a worker: each becomes a dead letter with the cause cancelled
    Purge(Purging),
}

/// How calls are taken away.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Purging {
    #[command(flatten)]
    pub(crate) which: Pausing,
    /// Delete them for good: no dead letters, and no callbacks
    #[arg(long = "drop")]
    pub(crate) for_good: bool,
    /// All of the queue; needed where no function is named
    #[arg(long, conflicts_with = "function")]
    pub(crate) all: bool,
    /// Only say how many are meant
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the record and for the dead letters
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

impl QueueCommand {
    /// What clap cannot tell.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self::Purge(Purging { which, all: false, dry_run: false, .. }) = self else { return None };
        which.function.is_none().then(|| {
            "nothing says what is to be taken away: name a function with --function, or say --all".to_owned()
        })
    }
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
