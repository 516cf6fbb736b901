//! Deletes dead letters for good: those that were there when the command was given, and none that died later.
//!
//! It is an operation as a redrive is. The command carries it out itself; a worker goes on with it if the
//! command is ended.

use super::export;
use crate::{
    message::operation::Kind,
    operate::{
        audit::because,
        cli::Choosing,
        desk::Desk,
        end::Failure,
        make::{Counted, Wanted, carry_out, make},
        out::number,
    },
};

/// Deletes the letters that are meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn discard(
    desk: &Desk,
    chosen: &Choosing,
    to: Option<&str>,
    reason: Option<&str>,
) -> Result<(), Failure> {
    desk.may_ask()?;
    let (names, choice) = (desk.queue()?, chosen.choice(desk.now()));
    let wanted = Wanted::of(Kind::Discard, choice, because(reason));
    let counted = Counted::of(desk, &names, &wanted).await?;
    counted.tell_others();
    if counted.left() > 0 {
        let (many, queue) = (number(counted.left()), &names.queue);
        desk.confirm(&format!("Delete {many} dead letters of {queue} ({}) for good?", wanted.choice))?;
        if let Some(to) = to {
            export::set_aside(desk, to)?;
            export::until(desk, &names, &wanted.choice, counted.cutoff, to).await?;
        }
    }
    let known = make(desk, &names, &wanted, counted).await?;
    carry_out(desk, &names, known).await
}
