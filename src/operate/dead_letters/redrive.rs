//! Sends dead letters round again: makes the operation, and follows it.

use crate::{
    message::{
        decode::FunctionName,
        letter::choice::Choice,
        operation::{Canary, Kind, MOST_CANARIES},
    },
    operate::{
        audit::because,
        cli::Redriving,
        desk::Desk,
        end::Failure,
        follow::{self, Ending},
        make::{Counted, Wanted, make},
        out::number,
    },
};

/// Sends the letters that are meant round again.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn redrive(desk: &Desk, how: &Redriving) -> Result<(), Failure> {
    if !how.dry_run {
        desk.may_ask()?;
    }
    let names = desk.queue()?;
    let wanted = wanted(how, how.chosen.choice(desk.now()))?;
    let counted = Counted::of(desk, &names, &wanted).await?;
    if how.dry_run {
        return counted.dry(desk, &names, &wanted);
    }
    counted.tell_others();
    let (many, queue) = (number(counted.left()), &names.queue);
    if counted.left() > 0 {
        desk.confirm(&format!("Send {many} dead letters of {queue} ({}) round again?", wanted.choice))?;
    }
    let known = make(desk, &names, &wanted, counted).await?;
    if how.detach {
        return follow::print(desk, &known.operation);
    }
    match follow::follow(desk, &names, &known.operation.operation).await? {
        Ending::Done => Ok(()),
        Ending::Short(reason) => Err(Failure::Cannot(reason)),
    }
}

fn wanted(how: &Redriving, choice: Choice) -> Result<Wanted, Failure> {
    let usage = |text: String| Failure::Usage(text);
    if let Some(to) = &how.to {
        to.parse::<FunctionName>().map_err(|error| usage(format!("--to={to:?}: {error}")))?;
    }
    let canary = how.canary.map(|calls| Canary::first(calls, how.require));
    if canary.as_ref().is_some_and(|canary| canary.calls > MOST_CANARIES) {
        return Err(usage(format!("--canary: expected at most {MOST_CANARIES}")));
    }
    let wanted = Wanted::of(Kind::Redrive, choice, because(how.reason.as_deref()));
    Ok(Wanted { rate: how.rate, to: how.to.clone(), canary, ..wanted })
}
