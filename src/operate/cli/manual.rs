//! What shells and `man` are told of the program: scripts that complete its commands, and the manual page.

use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Cli;
use crate::config;

/// What stands for an apostrophe in a page.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// All there is: the worker with its settings, the doctor, and the commands.
fn whole() -> Command {
    let worker = config::command();
    let doctor = worker.find_subcommand("doctor").cloned();
    Cli::command()
        .about("A queue worker for OpenFaaS on NATS JetStream")
        .args(worker.get_arguments())
        .subcommands(doctor)
}

/// The script that completes all that in this shell.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut whole(), "queue-worker", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page.
pub(super) fn page() -> String {
    // Memory to write to does not fail.
    written().unwrap_or_default()
}

fn written() -> io::Result<String> {
    let mut whole = whole();
    whole.build();
    let mut page = Vec::new();
    let man = Man::new(whole.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut told = Roff::new();
    told.control("SH", ["SYNOPSIS"]);
    told.text([bold("queue-worker"), roman(" [SETTINGS]")]).control("br", []);
    told.text([bold("queue-worker doctor"), roman(" [SETTINGS]")]).control("br", []);
    told.text([bold("queue-worker"), roman(" COMMAND")]);
    told.control("SH", ["DESCRIPTION"]);
    told.text([roman(config::command().get_about().map(ToString::to_string).unwrap_or_default())]);
    told.control("PP", []).text([roman(super::AFTER)]);
    told.control("SH", ["COMMANDS"]);
    told.to_writer(&mut page)?;
    for command in whole.get_subcommands_mut() {
        describe(command, &mut page)?;
    }
    page.extend(options(&whole, |_| false)?.bytes());
    let page = String::from_utf8_lossy(&page);
    // Each part says anew what stands for an apostrophe.
    Ok(format!("{APOSTROPHE}{}", page.replace(APOSTROPHE, "")))
}

/// Describes a command, or those below it.
fn describe(command: &mut Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.has_subcommands() {
        return command.get_subcommands_mut().try_for_each(|below| describe(below, page));
    }
    let usage = command.render_usage().to_string();
    let mut told = Roff::new();
    told.control("SS", [usage.trim_start_matches("Usage: ")]);
    told.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    told.to_writer(page)?;
    // A heading in here is none of the page's, and flags that all commands have stand at its end.
    let told = options(command, Arg::is_global_set)?;
    page.extend(told.replace(".SH OPTIONS\n", "").replace(".SH ", ".PP\n.I ").bytes());
    Ok(())
}

/// What there is to say of its flags, less these.
fn options(command: &Command, less: impl Fn(&Arg) -> bool) -> io::Result<String> {
    let own = command.clone().mut_args(|arg| {
        let hidden = less(&arg) || arg.is_hide_set() || ["help", "version"].contains(&arg.get_id().as_str());
        arg.hide(hidden)
    });
    let mut told = Vec::new();
    Man::new(own).render_options_section(&mut told)?;
    Ok(String::from_utf8_lossy(&told).into_owned())
}
