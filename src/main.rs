//! `queue-worker`: settings, logs, signals, and an exit code; the work is [`queue_worker::run::process`]'s.

use std::process::ExitCode;

use queue_worker::{
    api, config, ingress,
    observe::log,
    operate::{alone, cli, doctor, print, refused},
    run::{files, process::serve, signals::Signals},
    tasks::{offload, supervisor::Supervisor},
};

/// A call allocates over a hundred times, and the systems' own allocators take long for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if cli::is_command(&args) {
        return cli::run(args, std::env::vars_os());
    }
    let loaded = match config::load(args, std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(refusal) => return refused(refusal),
    };
    if loaded.doctor.is_some() {
        return examine(loaded);
    }
    let supervisor = Supervisor::default();
    let _guard = match log::init(&loaded.config.log, &supervisor) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("queue-worker: no thread for the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "Starting queue-worker");
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    for doubt in &loaded.doubts {
        tracing::warn!("{doubt}");
    }
    match run(loaded.config, supervisor) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what the guarantee rests on. Nothing is logged: what there is to say is in the report.
fn examine(loaded: config::Loaded) -> ExitCode {
    let (text, well) = match alone(doctor::run(loaded)) {
        Ok(report) => report,
        Err(code) => return code,
    };
    print(&text);
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One thread is enough: the work is waiting, and a second one costs more than it gives.
fn run(mut config: config::Config, supervisor: Supervisor) -> anyhow::Result<()> {
    config.max_inflight = {
        let others = config.ingress.as_ref().map_or(0, |_| ingress::FILES)
            + config.api.as_ref().map_or(0, |_| api::FILES);
        files::make_room(config.max_inflight, others)?
    };
    // Both TLS users, NATS and HTTP, take the process's one provider of cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    offload::worker()?.block_on(async { Ok(serve(config, supervisor, Signals::listen()?).await?) })
}
