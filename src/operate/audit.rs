//! `queue-worker audit`: what became of calls, and what operators did.

mod note;
pub(crate) mod search;
mod show;
mod tail;

pub(crate) use note::{act, because, by, note, record};

use super::{cli::AuditCommand, desk::Desk, end::Failure};

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Tail { limit, follow } => tail::tail(desk, limit, follow).await,
        AuditCommand::Search(wanted) => search::search(desk, &wanted).await,
    }
}

/// The failure where there is no audit at all.
fn none(desk: &Desk) -> Failure {
    let queues = desk.queues().unwrap_or_default();
    let streams: Vec<_> = queues.iter().map(|names| names.audit.as_str()).collect();
    Failure::Cannot(format!(
        "there is no stream {}: a worker with audit=failures or audit=all makes it",
        streams.join(" and none ")
    ))
}
