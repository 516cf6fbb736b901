//! Deletes dead letters for good: those that were there when the command was given, and none that died later.
//!
//! It is an operation as a redrive is. The command carries it out itself; a worker goes on with it if the
//! command is ended.

use tokio_util::sync::CancellationToken;

use super::{
    export,
    make::{Counted, Wanted, make},
};
use crate::{
    message::operation::Kind,
    operate::{
        cli::Choosing,
        desk::Desk,
        end::Failure,
        follow::{self, Ending},
        out::number,
    },
    upkeep::operations::{Work, Worker},
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
    let reason = reason.map(|reason| crate::text::line::cut(reason, 256).to_owned());
    let wanted = Wanted { kind: Kind::Discard, choice, rate: None, to: None, canary: None, reason };
    let counted = Counted::of(desk, &names, &wanted).await?;
    if counted.taken > 0 {
        eprintln!("queue-worker: {}", counted.others());
    }
    if counted.taken < counted.matched {
        let (many, queue) = (number(counted.matched - counted.taken), &names.queue);
        desk.confirm(&format!("Delete {many} dead letters of {queue} ({}) for good?", wanted.choice))?;
        if let Some(to) = to {
            export::until(desk, &names, &wanted.choice, counted.cutoff, to).await?;
        }
    }
    let known = make(desk, &names, &wanted, counted).await?;
    let id = known.operation.operation.clone();
    let worker = Worker {
        jetstream: desk.jetstream.clone(),
        names: names.clone(),
        name: "command".to_owned(),
        sized: false,
        metrics: None,
    };
    let work = Work::new(&worker, known, &CancellationToken::new());
    let (followed, ()) = tokio::join!(follow::follow(desk, &names, &id), work.carry_out());
    match followed? {
        Ending::Done => Ok(()),
        Ending::Short(reason) => Err(Failure::Cannot(reason)),
    }
}
