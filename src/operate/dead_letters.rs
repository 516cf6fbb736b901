//! `queue-worker dead-letters`: looks at dead letters, sends them round again, and takes them out.

mod discard;
mod export;
pub(crate) mod item;
pub(crate) mod list;
pub(crate) mod read;
mod redrive;
pub(crate) mod show;

use super::{cli::DeadLetters, desk::Desk, end::Failure};

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: DeadLetters) -> Result<(), Failure> {
    match command {
        DeadLetters::List { filter, group: true, limit } => list::groups(desk, &filter, limit).await,
        DeadLetters::List { filter, limit, .. } => list::list(desk, &filter, limit).await,
        DeadLetters::Show { sequence, reveal } => show::show(desk, sequence, reveal).await,
        DeadLetters::Redrive(how) => redrive::redrive(desk, &how).await,
        DeadLetters::Export { chosen, to, reveal } => export::export(desk, &chosen, &to, reveal).await,
        DeadLetters::Discard { chosen, export, reason } => {
            discard::discard(desk, &chosen, export.as_deref(), reason.as_deref()).await
        }
    }
}
