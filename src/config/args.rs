//! The command line. clap words the help; the walk over the arguments is made here, because clap stops at the
//! first error and people want all of them at once, with each flag as they typed it.

use std::{collections::BTreeMap, ffi::OsString, iter::Peekable};

use clap::{Arg, Command};
use url::Url;

use super::{
    Doctor,
    table::{self, Kind, SETTINGS, Setting, key},
    typed::{Typed, shown},
    values::{Read, boolean},
};

/// The settings in the arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// The values, by the names of the settings. The last one of a repeated flag counts, as in Go.
    pub values: BTreeMap<&'static str, Typed>,
    /// The faults.
    pub faults: Vec<String>,
    /// A text to print instead of running.
    pub print: Option<String>,
    /// The doctor's flags, if it is to run instead.
    pub doctor: Option<Doctor>,
}

enum Flag {
    Ours(&'static Setting),
    /// A flag of other workers that charts pass on; `true` if it needs no value.
    Ignored(bool),
    Help,
    Version,
    /// The doctor's own.
    Json,
    Output,
    Monitor,
    Context,
}

/// Reads the arguments, without the program's name.
pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Arguments {
    let mut arguments = Arguments::default();
    let mut args = args.into_iter().peekable();
    let mut position = 0;
    if args.next_if(|word| word == "doctor").is_some() {
        position += 1;
        arguments.doctor = Some(Doctor::default());
    }
    while let Some(word) = args.next() {
        position += 1;
        let text = word.to_string_lossy();
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&*text, None),
        };
        // Go's flags have one dash.
        let Some(bare) = name.strip_prefix("--").or_else(|| name.strip_prefix('-')) else {
            // Not repeated: it may be the value of an unknown flag, and secret.
            arguments.faults.push(format!("argument {position}: expected a flag, such as --max-inflight=50"));
            continue;
        };
        let Some(flag) = find(bare, arguments.doctor.is_some()) else {
            arguments.faults.push(format!("{}: expected one of the flags that --help lists", shown(name)));
            continue;
        };
        let switch = match flag {
            Flag::Help => {
                let help = if arguments.doctor.is_some() { doctors_help } else { help };
                arguments.print.get_or_insert_with(help);
                continue;
            }
            Flag::Version => {
                arguments.print.get_or_insert(version());
                continue;
            }
            Flag::Ours(setting) => setting.kind == Kind::Bool,
            Flag::Ignored(switch) => switch,
            Flag::Json => true,
            Flag::Output | Flag::Monitor | Flag::Context => false,
        };
        let value = match attached {
            Some(value) => word.to_str().map(|_| value.to_owned()).ok_or("expected a value in UTF-8"),
            None => detached(&mut args, switch, &mut position),
        };
        match (flag, value) {
            (Flag::Ignored(_) | Flag::Help | Flag::Version, _) => {}
            (_, Err(expected)) => arguments.faults.push(format!("{name}: {expected}")),
            (flag @ (Flag::Json | Flag::Output | Flag::Monitor | Flag::Context), Ok(value)) => {
                let doctor = arguments.doctor.get_or_insert_default();
                if let Err(expected) = doctor.set(&flag, value.trim()) {
                    arguments.faults.push(format!("{name}: {value:?}: {expected}"));
                }
            }
            // As in the environment, an empty value means that nothing is set.
            (Flag::Ours(_), Ok(value)) if value.trim().is_empty() => {}
            (Flag::Ours(setting), Ok(value)) => {
                let typed = Typed { name: name.to_owned(), text: value.trim().to_owned() };
                arguments.values.insert(setting.name, typed);
            }
        }
    }
    arguments
}

/// The value of a flag that stands in the next argument.
fn detached(
    args: &mut Peekable<impl Iterator<Item = OsString>>,
    switch: bool,
    position: &mut usize,
) -> Result<String, &'static str> {
    let is_value = |next: &OsString| {
        let text = next.to_string_lossy();
        match text.strip_prefix('-') {
            _ if switch => ["true", "false", "1", "0"].iter().any(|word| text.eq_ignore_ascii_case(word)),
            // A negative number is a value, if hardly a good one, and better refused as what it is.
            Some(rest) => rest.starts_with(|c: char| c == '.' || c.is_ascii_digit()),
            None => true,
        }
    };
    match args.next_if(is_value) {
        Some(value) => {
            *position += 1;
            value.into_string().map_err(|_| "expected a value in UTF-8")
        }
        None if switch => Ok("true".to_owned()),
        None => Err("expected a value"),
    }
}

impl Doctor {
    fn set(&mut self, flag: &Flag, value: &str) -> Read<()> {
        match flag {
            Flag::Json => self.json = boolean(value)?,
            // As the commands have it.
            Flag::Output => match value {
                "json" => self.json = true,
                "table" => self.json = false,
                _ => return Err("expected table or json".to_owned()),
            },
            Flag::Context => self.context = Some(value.to_owned()),
            _ => {
                let url = Url::parse(value)
                    .ok()
                    .filter(|url| url.scheme() == "http" && url.has_host() && url.username().is_empty());
                self.monitor = Some(url.ok_or("expected a URL such as http://nats:8222")?);
            }
        }
        Ok(())
    }
}

fn find(name: &str, doctor: bool) -> Option<Flag> {
    match key(name).as_str() {
        "json" if doctor => Some(Flag::Json),
        "output" if doctor => Some(Flag::Output),
        "monitor" if doctor => Some(Flag::Monitor),
        "context" if doctor => Some(Flag::Context),
        "h" | "help" => Some(Flag::Help),
        "v" | "version" => Some(Flag::Version),
        "licensefile" => Some(Flag::Ignored(false)),
        "pprof" => Some(Flag::Ignored(true)),
        _ => table::find(name).map(Flag::Ours),
    }
}

fn version() -> String {
    concat!("queue-worker ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

fn help() -> String {
    command().term_width(WIDTH).render_help().to_string()
}

/// The doctor's own help.
fn doctors_help() -> String {
    let doctor = doctor().bin_name("queue-worker doctor").after_help(DOCTORS_SETTINGS);
    doctor.term_width(WIDTH).render_help().to_string()
}

/// The worker as clap knows it: its flags, and the words that begin something else.
pub(super) fn command() -> Command {
    let flags = SETTINGS.iter().map(|setting| {
        Arg::new(setting.name)
            .long(setting.flag())
            .visible_aliases(setting.aliases.iter().map(|alias| alias.replace('_', "-")).collect::<Vec<_>>())
            .value_name(value_name(setting.kind))
            // On a line of its own, which nothing breaks, so that one can search for it.
            .help(format!("{}\n[default: {}]", setting.help, setting.default_text()))
            .help_heading(setting.group)
    });
    Command::new("queue-worker")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Pulls function invocations from NATS JetStream, posts them to a gateway, retries them and \
            dead-letters what keeps failing. With a command it looks at queues and changes what lies in them",
        )
        .after_help(AFTER)
        .subcommand(doctor().about(format!("{DOCTOR}: queue-worker doctor --help")))
        .subcommand(
            Command::new("dead-letters")
                .about("Lists, shows, redrives, exports and discards them: queue-worker dead-letters --help"),
        )
        .subcommand(Command::new("operations").about(
            "Lists, shows, ends and resumes redrives, discards and cancels: queue-worker operations --help",
        ))
        .subcommand(
            Command::new("calls").about("Says where a call is, and ends it: queue-worker calls --help"),
        )
        .subcommand(Command::new("audit").about(
            "Shows what became of calls, and what operators did, where that is recorded: queue-worker audit \
             --help",
        ))
        .subcommand(Command::new("queue").about(
            "Pauses, resumes and purges a queue or a function, and shows amounts: queue-worker queue --help",
        ))
        .subcommand(
            Command::new("retries").about(
                "Lists retries that wait, calls some now, and cancels some: queue-worker retries --help",
            ),
        )
        .subcommand(Command::new("invoke").about("Queues a call: queue-worker invoke --help"))
        .subcommand(
            Command::new("policy")
                .about("Shows when the attempts of a call would be: queue-worker policy --help"),
        )
        .subcommand(
            Command::new("completions")
                .about("Prints a script that completes all this in a shell: queue-worker completions bash"),
        )
        .subcommand(Command::new("man").about("Prints the manual page: queue-worker man | man -l -"))
        .disable_help_subcommand(true)
        .args(flags)
}

fn doctor() -> Command {
    Command::new("doctor")
        .about(DOCTOR)
        .arg(Arg::new("json").long("json").num_args(0).help("Print one object, for machines"))
        .arg(Arg::new("output").long("output").value_name("FORM").help("The same as --json: table or json"))
        .arg(Arg::new("context").long("context").value_name("NAME").help("A context of the nats tool"))
        .arg(
            Arg::new("monitor")
                .long("monitor")
                .value_name("URL")
                .help("A monitoring address of NATS, if it is not port 8222 of its host"),
        )
}

/// How wide helps are.
const WIDTH: usize = 110;

const DOCTOR: &str = "\
Checks what the guarantee rests on, changes nothing, and prints what is guaranteed; exits with 1 where \
something is not";

const DOCTORS_SETTINGS: &str = "\
It goes by the settings that it is given: in a worker's Pod they are the worker's. Every setting of the \
worker is a flag here, too, and is read from the environment, such as --nats-url; \"queue-worker --help\" \
lists them.";

const AFTER: &str = "\
Each setting is an environment variable too: --max-inflight is max_inflight, MAX_INFLIGHT or maxInflight. \
The flag wins; an empty value means that nothing is set. Durations are Go's (300ms, 1m10s, 1.5h, 0), sizes \
are bytes or have a unit (10MiB, 64kB). Commands have flags of their own beside these, such as --queue, \
--output json, --context and --yes: queue-worker COMMAND --help lists them.";

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Bool => "BOOL",
        Kind::Count => "NUMBER",
        Kind::Duration => "DURATION",
        Kind::Bytes => "SIZE",
        Kind::Port => "PORT",
        Kind::File => "FILE",
        Kind::Url => "URL",
        Kind::Secret => "SECRET",
    }
}
