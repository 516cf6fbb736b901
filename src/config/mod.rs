//! Flags and environment become the [`Config`].
//!
//! ```text
//!  arguments ─args──┐
//!                   ├─▶ Typed, by setting ─reader─▶ build ─▶ Config, or every fault at once
//!  environment ─env─┘                       │
//!                                         table: names, defaults, help
//! ```
//!
//! Calls: text, retry, message.

pub mod allowed;
mod api;
mod args;
mod build;
mod context;
mod doubts;
mod env;
mod foreign;
mod gateway;
mod ingress;
mod login;
mod lookup;
mod names;
mod nats;
mod queue;
mod reader;
mod table;
mod target;
mod tracing;
#[cfg(test)]
mod tests;
mod typed;
mod values;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use url::Url;

use self::context::Context;

pub use self::{
    api::Api,
    doubts::Doubt,
    ingress::Ingress,
    login::{Login, UrlLogin},
    lookup::FunctionLookup,
    nats::Nats,
    queue::{Deliver, Queue},
    table::{Kind, Preset, Setting},
    target::Request,
    tracing::{Sampler, Tracing},
};
use crate::{config::allowed::AllowedHosts, retry::policy::RetryPolicy};

/// Reads the settings from the arguments (without the program's name) and the environment.
///
/// # Errors
///
/// [`Refusal`] where there is something to print instead, or settings are wrong.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Refusal> {
    load_in(args, env, None)
}

/// The same, with what a context of the `nats` tool says where nobody says otherwise: that of the name in
/// `context`, or the selected one.
///
/// # Errors
///
/// [`Refusal`], as for [`load`].
pub fn load_in(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    context: Option<Option<String>>,
) -> Result<Loaded, Refusal> {
    let arguments = args::read(args);
    if let Some(text) = arguments.print {
        return Err(Refusal::Print(text));
    }
    let env: Vec<_> = env.into_iter().collect();
    let of_doctor = arguments.doctor.as_ref().and_then(|doctor| doctor.context.clone());
    let context = context.or(of_doctor.map(Some)).map(|name| Context::of(name, &env));
    let environment = env::read(env);
    let mut typed = environment.values;
    typed.extend(arguments.values);
    let mut faults = [arguments.faults, environment.faults].concat();
    faults.extend(context.and_then(|context| context.add_to(&mut typed).err()).into_iter().flatten());
    let mut reader = reader::Reader::new(typed, faults);
    match build::config(&mut reader) {
        Ok(config) if reader.is_faultless() => {
            let doubts = doubts::doubts(&reader, &config);
            Ok(Loaded { config, notes: environment.notes, doubts, doctor: arguments.doctor })
        }
        _ => Err(Refusal::Invalid(reader.faults())),
    }
}

/// The name of a queue, checked as the settings' are.
///
/// # Errors
/// What was expected.
pub(crate) fn queue_name(text: &str) -> Result<String, String> {
    names::queue(text)
}

/// The worker as clap knows it: its flags, and the words that begin something else.
pub(crate) fn command() -> clap::Command {
    args::command()
}

/// Every setting there is, in the order of the help.
#[must_use]
pub fn settings() -> &'static [Setting] {
    table::SETTINGS
}

/// Usable settings.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Lines for the log about ignored settings.
    pub notes: Vec<String>,
    /// Lines for the log about settings that may not do what was meant.
    pub doubts: Vec<Doubt>,
    /// The doctor's flags, if it is to run instead of the worker.
    pub doctor: Option<Doctor>,
}

/// The flags of the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doctor {
    /// Whether to print JSON.
    pub json: bool,
    /// The monitoring address of NATS, if it is not port 8222 of its host.
    pub monitor: Option<Url>,
    /// The context of the `nats` tool that says where NATS is.
    pub context: Option<String>,
}

/// The reason not to run the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Help or version, on request: printed to stdout as it is, exit code 0.
    Print(String),
    /// All faults, one line each and without secrets: printed to stderr, exit code 64.
    Invalid(Vec<String>),
}

/// Every setting of the worker, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach and log in to NATS.
    pub nats: Nats,
    /// The queues that are served, at least one; no two share a name or a stream.
    pub queues: Vec<Queue>,
    /// The NATS Streaming cluster that the bridge answers as; none: there is no bridge.
    pub stan_cluster: Option<String>,
    /// Where functions answer, at `/function/NAME`. Has no user, password, query or fragment; its path has no
    /// trailing slash, but for the root, which a [`Url`] always writes as `/`.
    pub gateway_url: Url,
    /// Certificate authorities of an https gateway in place of the system's.
    pub gateway_ca_file: Option<PathBuf>,
    /// How the annotations are found that a message does not carry; `None`: they are not looked for.
    pub function_lookup: Option<FunctionLookup>,
    /// The namespace of functions whose name carries none.
    pub function_namespace: String,
    /// Calls at once in this process, at least 1.
    pub max_inflight: usize,
    /// The bytes that the messages of these calls have together; `None`: as the memory that there
    /// is allows.
    pub max_inflight_bytes: Option<usize>,
    /// How soon another worker takes over after this one dies, at least 1 s.
    pub ack_wait: Duration,
    /// How long one call may take, more than 0.
    pub upstream_timeout: Duration,
    /// How messages are retried unless their annotations say otherwise.
    pub retry: RetryPolicy,
    /// The timer of parked retries.
    pub retry_timer: RetryTimer,
    /// Size limit in bytes of a stream of retries when it is created; 0 is none.
    pub retries_max_bytes: u64,
    /// Whether the confirmation of a completed call's acknowledgement is insisted on.
    pub confirm_acks: bool,
    /// What becomes of invocations that end without success.
    pub dead_letters: DeadLetters,
    /// How a function's answer is sent to a callback URL.
    pub callback: Callback,
    /// How long SIGTERM waits for running calls.
    pub shutdown_grace: Duration,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen_addr: SocketAddr,
    /// The way in by HTTP, if there is one.
    pub ingress: Option<Ingress>,
    /// The operators' API, if there is one.
    pub api: Option<Api>,
    /// How logs are written.
    pub log: Log,
    /// Where traces go, if they go anywhere.
    pub tracing: Option<Tracing>,
    /// What is recorded of calls.
    pub audit: Audit,
}

/// What is recorded of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Of which calls.
    pub level: Audited,
    /// Age limit of the audit's stream when it is created; 0 is none.
    pub max_age: Duration,
    /// Size limit in bytes of that stream when it is created; 0 is none.
    pub max_bytes: u64,
}

/// The calls whose end is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audited {
    /// None.
    Nothing,
    /// Those that ended without success.
    Failures,
    /// All.
    All,
}

/// The timer of parked retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryTimer {
    /// The best that the server offers.
    Auto,
    /// Message schedules of NATS 2.12.9 and newer.
    Schedules,
    /// Levels of similar delays, on any server.
    Levels,
}

/// What becomes of invocations that end without success.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// `false`: they are dropped, with a warning and a count each.
    pub enabled: bool,
    /// Age limit of the dead-letter stream when it is created; 0 is none.
    pub max_age: Duration,
    /// Size limit in bytes of the dead-letter stream when it is created; 0 is none.
    pub max_bytes: u64,
}

/// How a function's answer is sent to a callback URL.
#[derive(Debug, Clone)]
pub struct Callback {
    /// How long one POST may take.
    pub timeout: Duration,
    /// How often one is tried, at least once.
    pub attempts: u32,
    /// The most bytes of a function's answer that are passed on.
    pub max_body: usize,
    /// The most bytes of all answers that are kept at once, but for one.
    pub memory: usize,
    /// Where it may be sent.
    pub allowed: AllowedHosts,
    /// Whether only addresses of the public internet may be connected to.
    pub deny_private: bool,
    /// The secrets that callbacks are signed with, if they are.
    pub signing_file: Option<PathBuf>,
    /// Skip certificate checks.
    pub tls_insecure: bool,
}

/// How logs are written.
#[derive(Debug, Clone)]
pub struct Log {
    /// Lines for people or for machines.
    pub encoding: Encoding,
    /// Log at debug level.
    pub debug: bool,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Text.
    Console,
    /// One JSON object a line.
    Json,
}
