//! The worker's settings as flags of a command.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::{self, Kind, Setting};

/// A command that takes every setting as a flag, anywhere. Its help does not list them: they are many.
pub(super) fn with_settings(command: Command, told: &'static str) -> Command {
    telling(command, told).args(config::settings().iter().map(|setting| {
        let arg = Arg::new(id(setting))
            .long(setting.flag())
            .aliases(setting.aliases.iter().map(|alias| alias.replace('_', "-")).collect::<Vec<_>>())
            .global(true)
            .hide(true)
            .action(ArgAction::Set);
        if setting.kind == Kind::Bool {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg.num_args(1).allow_hyphen_values(true)
        }
    }))
}

/// A command and those below it, whose helps end with these words.
fn telling(command: Command, told: &'static str) -> Command {
    command.after_help(told).mut_subcommands(|below| telling(below, told))
}

/// The settings that were given, as the worker takes them.
pub(super) fn typed(matches: &ArgMatches) -> Vec<OsString> {
    config::settings()
        .iter()
        .filter_map(|setting| {
            let value = matches.get_one::<String>(&id(setting))?;
            Some(format!("--{}={value}", setting.flag()).into())
        })
        .collect()
}

/// Its name among the flags of all commands.
fn id(setting: &Setting) -> String {
    format!("setting:{}", setting.name)
}
