//! What the commands have in common that run beside no worker: how they begin, and what is said where they
//! cannot.

use std::process::ExitCode;

use super::{end::Failure, out::print};
use crate::config::Refusal;

/// Does the work of a command, and returns what comes of it.
///
/// # Errors
/// Where the system has no room for it, which is said: the exit code.
pub fn alone<T>(work: impl Future<Output = T>) -> Result<T, ExitCode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        eprintln!("queue-worker: {error}");
        ExitCode::FAILURE
    })?;
    let done = runtime.block_on(work);
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    Ok(done)
}

/// Says why nothing was begun, or prints what was asked for in its place.
pub fn refused(refusal: Refusal) -> ExitCode {
    match refusal {
        Refusal::Print(text) => {
            print(&format!("{}\n", text.trim_end()));
            ExitCode::SUCCESS
        }
        Refusal::Invalid(faults) => {
            faults.iter().for_each(|fault| eprintln!("queue-worker: {fault}"));
            Failure::Usage(String::new()).code()
        }
    }
}
