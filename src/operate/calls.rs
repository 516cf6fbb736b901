//! `queue-worker calls`: where a call is, and its end.

mod ask;
pub(crate) mod cancel;
pub(crate) mod find;
pub(crate) mod found;
pub(crate) mod show;

use super::{cli::CallsCommand, desk::Desk, end::Failure};

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: CallsCommand) -> Result<(), Failure> {
    match command {
        CallsCommand::Cancel { call_id, reason } => cancel::cancel(desk, &call_id, reason).await,
        CallsCommand::Show { call_id, scan } => show::show(desk, &call_id, scan).await,
    }
}
