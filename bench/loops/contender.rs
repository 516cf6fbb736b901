//! Who is measured. Each is a command that the environment tells where to work; the bare loop is the first.

use std::{env, fs::File, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::{
    broker::{DURABLE, STREAM, SUBJECT, free_port},
    message::Form,
    plan::Plan,
    process::{Process, role},
    scratch::Scratch,
};

pub struct Contender {
    pub name: &'static str,
    /// The form of the messages that it takes.
    pub form: Form,
    /// The worker's settings, where it is a worker.
    pub settings: Option<&'static [(&'static str, &'static str)]>,
    /// Whether it makes its consumer itself. For all others there is one.
    pub own_consumer: bool,
    pub command: Box<dyn Fn() -> Result<Command>>,
}

/// Where a contender works.
pub struct Place<'a> {
    pub broker: &'a str,
    pub gateway: &'a str,
    pub concurrency: usize,
    /// More settings of the worker.
    pub settings: &'a [(&'a str, &'a str)],
}

impl Contender {
    pub async fn all(plan: &Plan, scratch: &Scratch) -> Result<Vec<Self>> {
        let mut all = vec![Self::bare("bare", "plain"), Self::bare("bare, confirmed", "confirmed")];
        if plan.go {
            all.extend(go(scratch.path()).await?);
        }
        all.push(Self::worker());
        if let Ok(peer) = env::var("PEER") {
            all.push(Self::peer(peer)?);
        }
        Ok(all)
    }

    /// The worker with each input.
    pub fn inputs() -> Vec<Self> {
        vec![
            Self::worker(),
            Self { name: "input=http", form: Form::Http, ..Self::worker() },
            Self { name: "input=cloudevents", form: Form::CloudEvents, ..Self::worker() },
        ]
    }

    /// The worker with its defaults, and with what costs or saves something with each call.
    pub fn options() -> Vec<Self> {
        let with = |name, settings| Self { name, settings: Some(settings), ..Self::worker() };
        vec![
            Self::worker(),
            with("RUST_LOG=warn", &[("RUST_LOG", "warn")]),
            with("confirm_acks=false", &[("confirm_acks", "false")]),
            with("audit=all", &[("audit", "all")]),
            with("retry_timer=levels", &[("retry_timer", "levels")]),
        ]
    }

    /// Whether this is what all is about.
    pub fn is_worker(&self) -> bool {
        self.name == "worker"
    }

    pub fn bare(name: &'static str, acks: &'static str) -> Self {
        let command = move || {
            let mut command = role("bare", &[])?;
            command.env("BENCH_ACKS", acks);
            Ok(command)
        };
        Self::of(name, Box::new(command))
    }

    /// One that is no worker and has the usual consumer.
    fn of(name: &'static str, command: Box<dyn Fn() -> Result<Command>>) -> Self {
        Self { name, form: Form::OpenFaas, settings: None, own_consumer: false, command }
    }

    /// The worker with its defaults, and a JSON line for each event.
    pub fn worker() -> Self {
        let command = || {
            let program = env::var_os("WORKER_BIN");
            let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_queue-worker").into());
            let mut command = Command::new(program);
            // Nothing of the environment of whoever runs this gets in.
            command.env_clear().env("listen_addr", format!("127.0.0.1:{}", free_port()?));
            command.env("log_encoding", "json");
            Ok(command)
        };
        Self { settings: Some(&[]), ..Self::of("worker", Box::new(command)) }
    }

    /// The shell reads the command, and then becomes it: the process is the contender's own.
    fn peer(peer: String) -> Result<Self> {
        let command = move || {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("exec {peer}"));
            Ok(command)
        };
        let own_consumer = match env::var("PEER_CONSUMER").ok().as_deref() {
            None | Some("") => false,
            Some("own") => true,
            Some(other) => bail!("PEER_CONSUMER is {other:?}: own or nothing expected"),
        };
        Ok(Self { own_consumer, ..Self::of("peer", Box::new(command)) })
    }

    /// What it prints goes into a file, which costs it about what a container's log does.
    pub fn start(&self, place: &Place<'_>, log: &Path) -> Result<Process> {
        let log = File::create(log)?;
        let concurrency = place.concurrency.to_string();
        let mut command = (self.command)()?;
        for (name, of_the_worker, value) in [
            ("BENCH_NATS_URL", "nats_url", place.broker),
            ("BENCH_STREAM", "nats_stream", STREAM),
            ("BENCH_SUBJECT", "queue_name", SUBJECT),
            ("BENCH_DURABLE", "nats_durable", DURABLE),
            ("BENCH_GATEWAY_URL", "gateway_url", place.gateway),
            ("BENCH_CONCURRENCY", "max_inflight", &concurrency),
        ] {
            command.env(if self.settings.is_some() { of_the_worker } else { name }, value);
        }
        if let Some(input) = self.form.input() {
            command.env("input", input).env("target_url", format!("{}/hooks", place.gateway));
        }
        command.envs(self.settings.unwrap_or_default().iter().chain(place.settings).copied());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Process::spawn(command)
    }
}

/// The loop in Go, where it can be built: go says itself what is missing.
async fn go(folder: &Path) -> Result<Option<Contender>> {
    let program = folder.join("go-loop");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/loops/go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".").current_dir(source).env("GOTOOLCHAIN", "local");
    let built = match build.output().await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match built {
        Ok(()) => {
            let command = move || Ok(Command::new(&program));
            Ok(Some(Contender::of("Go", Box::new(command))))
        }
        Err(reason) => {
            println!("The loop in Go is left out: {}\n", reason.lines().last().context("go build failed")?);
            Ok(None)
        }
    }
}
