//! The commands as they are typed: `queue-worker dead-letters list --function f`.
//!
//! Every setting of the worker is a flag of theirs, too, and is read as the worker reads it.

mod audit;
mod calls;
mod choose;
mod manual;
mod queue;
mod retries;
mod settings;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use audit::{AuditCommand, Searching, outcome};
pub(super) use calls::CallsCommand;
pub(crate) use choose::{Choosing, Filter, Moment, Redriving, cause, sequence, status};
pub(crate) use queue::Pausing;
pub(super) use queue::{Invoking, Purging, QueueCommand};
pub(super) use retries::{Cancelling, PolicyCommand, RetriesCommand};

use super::{
    alone, audit as audited, calls as called, dead_letters, desk::Desk, end::Failure, invoke, operations,
    policy, queue as queues, refused, retries as waiting,
};
use crate::config::{self, Refusal};

/// The words that begin a command.
const WORDS: [&str; 10] = [
    "dead-letters",
    "operations",
    "audit",
    "calls",
    "queue",
    "retries",
    "invoke",
    "policy",
    "completions",
    "man",
];

/// Looks at queues, and changes what lies in them.
#[derive(Debug, Parser)]
#[command(name = "queue-worker", version, propagate_version = true)]
#[command(disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The queue, where the settings name several
    #[arg(long, global = true, value_name = "QUEUE")]
    queue: Option<String>,
    /// What is printed: a table for people, or one JSON document
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORM")]
    output: Output,
    /// A context of the nats tool: where NATS is, and the login; without a name the selected one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<Option<String>>,
    /// Answer a command that asks first with yes; needed where there is no terminal to ask on
    #[arg(long, global = true)]
    yes: bool,
}

/// What most commands that choose are about.
const LETTERS: &str = "dead letters";

const AFTER: &str = "\
Every setting of the worker is a flag here, too, and is read from the environment, such as --nats-url; \
\"queue-worker --help\" lists them. Exit codes: 0 done, 1 could not, 3 nothing matches, 64 wrong usage.";

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    #[value(help = None)]
    Table,
    #[value(help = None)]
    Json,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at dead letters, sends them round again, exports or discards them
    #[command(subcommand)]
    DeadLetters(Box<DeadLetters>),
    /// Looks at redrives, discards and cancels, ends them or goes on with them
    #[command(subcommand)]
    Operations(OperationsCommand),
    /// Says where a call is, and ends it
    #[command(subcommand)]
    Calls(CallsCommand),
    /// Looks at what became of calls, and at what operators did
    #[command(subcommand)]
    Audit(Box<AuditCommand>),
    /// Pauses, resumes and purges a queue or a function, and says how much there is
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Looks at retries that wait, calls some now, and cancels some
    #[command(subcommand)]
    Retries(Box<RetriesCommand>),
    /// Queues a call of a function, as the gateway would
    Invoke(Invoking),
    /// Shows when the attempts of a call would be
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Prints a script that completes commands and flags in a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Prints the manual page
    Man,
}

/// What is to be done with operations.
#[derive(Debug, Subcommand)]
pub(super) enum OperationsCommand {
    /// Lists operations, the oldest first
    List,
    /// Shows one
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Goes on with one that was stopped or aborted, and follows it
    Resume {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Do not wait for its end
        #[arg(long)]
        detach: bool,
    },
    /// Ends one: what is not done yet stays as it is
    Abort {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Do not wait for its end
        #[arg(long)]
        detach: bool,
    },
}

/// What is to be done with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Lists dead letters, oldest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Sum them up by function, cause, status and error
        #[arg(long)]
        group: bool,
        /// List this many at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Shows one: its story, its attempts, its headers and its body
    Show {
        /// Its number in the list
        #[arg(value_name = "SEQUENCE", value_parser = sequence)]
        sequence: u64,
        /// Show secrets, too: headers such as Authorization and Cookie, queries and logins of URLs
        #[arg(long)]
        reveal: bool,
    },
    /// Sends dead letters round again: a worker does it, this follows it
    Redrive(Redriving),
    /// Writes dead letters to a file, whole, a JSON object a line: all, if none are named
    Export {
        #[command(flatten)]
        chosen: Choosing,
        /// The file; - is the standard output
        #[arg(long, value_name = "FILE")]
        to: String,
        /// Do not mask secrets in headers
        #[arg(long)]
        reveal: bool,
    },
    /// Deletes dead letters for good
    Discard {
        #[command(flatten)]
        chosen: Choosing,
        /// Write them to this file first; what it holds is kept beside it, as FILE.1
        #[arg(long, value_name = "FILE")]
        export: Option<String>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

/// Whether these arguments (without the program's name) are a command's, and not the worker's. The worker and
/// the doctor take nothing but flags: another first word is a command, if only a mistyped one.
pub fn is_command(args: &[OsString]) -> bool {
    let first = args.first().and_then(|word| word.to_str()).unwrap_or_default();
    if !first.is_empty() && !first.starts_with('-') {
        return first != "doctor";
    }
    let is_flag =
        |word: &OsString| word.to_str().is_some_and(|word| word.starts_with('-') && !word.contains('='));
    args.iter().enumerate().any(|(at, word)| {
        let is_value = at > 0 && args.get(at - 1).is_some_and(is_flag);
        !is_value && word.to_str().is_some_and(|word| WORDS.contains(&word))
    })
}

/// Runs the command that these arguments are, and returns the exit code.
pub fn run(args: Vec<OsString>, env: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    let (cli, loaded) = match read(args, env) {
        Ok(read) => read,
        Err(refusal) => return refused(refusal),
    };
    let Cli { command, queue, output, yes, context: _ } = cli;
    let work = async {
        if let Command::Policy(command) = command {
            return policy::run(&loaded.config, output, command).await;
        }
        Desk::open(loaded.config, queue, output, yes, async |desk| act(&desk, command).await).await
    };
    let done = match alone(work) {
        Ok(done) => done,
        Err(code) => return code,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("queue-worker: {failure}");
            failure.code()
        }
    }
}

/// Does what needs a connection.
async fn act(desk: &Desk, command: Command) -> Result<(), Failure> {
    match command {
        Command::DeadLetters(command) => dead_letters::run(desk, *command).await,
        Command::Operations(command) => operations::run(desk, command).await,
        Command::Calls(command) => called::run(desk, command).await,
        Command::Audit(command) => audited::run(desk, *command).await,
        Command::Queue(command) => queues::run(desk, command).await,
        Command::Retries(command) => waiting::run(desk, *command).await,
        Command::Invoke(asked) => invoke::run(desk, &asked).await,
        Command::Policy(command) => policy::run(&desk.config, desk.output, command).await,
        // They are printed before a connection is made.
        Command::Completions { .. } | Command::Man => Ok(()),
    }
}

/// Reads a command, and the settings that it works with.
fn read(
    args: Vec<OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Cli, config::Loaded), Refusal> {
    let words = std::iter::once("queue-worker".into()).chain(args);
    let refused = |error: clap::Error| {
        let text = error.render().to_string();
        if error.use_stderr() {
            Refusal::Invalid(vec![text.trim_start_matches("error: ").trim_end().to_owned()])
        } else {
            Refusal::Print(text)
        }
    };
    let matches =
        settings::with_settings(Cli::command(), AFTER).try_get_matches_from(words).map_err(refused)?;
    let cli = Cli::from_arg_matches(&matches).map_err(refused)?;
    if let Some(fault) = cli.fault() {
        return Err(Refusal::Invalid(vec![fault]));
    }
    match &cli.command {
        Command::Completions { shell } => return Err(Refusal::Print(manual::script(*shell))),
        Command::Man => return Err(Refusal::Print(manual::page())),
        _ => {}
    }
    let loaded = config::load_in(settings::typed(&matches), env, cli.context.clone())?;
    Ok((cli, loaded))
}

impl Cli {
    /// What clap cannot tell.
    fn fault(&self) -> Option<String> {
        let command = match &self.command {
            Command::Retries(command) => return command.fault(),
            Command::Queue(command) => return command.fault(),
            Command::DeadLetters(command) => command,
            _ => return None,
        };
        match &**command {
            DeadLetters::Discard { chosen, .. } => chosen.fault().or_else(|| chosen.unlimited(LETTERS)),
            DeadLetters::Redrive(how) => how.chosen.fault().or_else(|| how.chosen.unlimited(LETTERS)),
            DeadLetters::Export { chosen, .. } => chosen.fault(),
            DeadLetters::List { .. } | DeadLetters::Show { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
