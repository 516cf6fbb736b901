//! Cancels parked calls: makes them due with a word that they are not to be called. Whichever worker takes
//! one ends it.
//!
//! It is an operation as a redrive is. The command carries it out itself; a worker goes on with it if the
//! command is ended.

use crate::{
    message::operation::Kind,
    operate::{
        audit::because,
        cli::Cancelling,
        desk::Desk,
        end::Failure,
        follow,
        make::{Counted, Wanted, carry_out, make},
        out::number,
    },
};

/// Cancels the parked calls that are meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn cancel(desk: &Desk, how: &Cancelling) -> Result<(), Failure> {
    if !how.dry_run {
        desk.may_ask()?;
    }
    let (names, choice) = (desk.queue()?, how.chosen.choice(desk.now()));
    let wanted = Wanted::of(Kind::Cancel, choice, because(how.reason.as_deref()));
    let counted = Counted::of(desk, &names, &wanted).await?;
    if how.dry_run {
        return counted.dry(desk, &names, &wanted);
    }
    counted.tell_others();
    if counted.left() > 0 {
        let (many, queue) = (number(counted.left()), &names.queue);
        desk.confirm(&format!("Cancel {many} parked calls of {queue} ({})?", wanted.choice))?;
    }
    let known = make(desk, &names, &wanted, counted).await?;
    if how.detach {
        return follow::print(desk, &known.operation);
    }
    carry_out(desk, &names, known).await
}
