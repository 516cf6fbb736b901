//! Takes away what waits for a worker: fresh calls, due ones, and those that a pause holds. What runs, and
//! what is parked, stays.
//!
//! Nobody may begin a call just as it is taken away. So the queue is paused meanwhile, and what a worker has
//! got before counts as running.

mod end;
mod insist;
mod signals;
mod still;
mod take;
mod taken;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::{signals::Signals, still::Still, take::Taking, taken::Taken};
use super::functions;
use crate::{
    message::{audit::Action, call::why, decode::FunctionName, names::Names},
    operate::{
        audit::{because, by, note},
        cli::{Output, Purging},
        desk::Desk,
        end::Failure,
        out::{self, number},
    },
};

/// Takes away what is meant.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn purge(desk: &Desk, how: &Purging) -> Result<(), Failure> {
    if !how.dry_run {
        desk.may_ask()?;
    }
    let names = desk.queue()?;
    let functions = functions(desk, &names, &how.which)?;
    if !how.for_good && desk.stream(&names.dead).await?.is_none() {
        return Err(Failure::Cannot(format!(
            "there is no stream {} for their dead letters; --drop deletes them for good",
            names.dead
        )));
    }
    let halt = CancellationToken::new();
    let taking = Taking::new(desk, &names, functions, how.for_good, &halt).await?;
    let matched = taking.count().await?;
    let what = what(&names, how);
    if matched == 0 {
        return Err(Failure::Nothing(format!("no call of {what} waits for a worker")));
    }
    if how.dry_run {
        return print(desk, &names, how, "dry-run", (matched, &Taken::default()));
    }
    taking.rights().await?;
    let verb = if how.for_good { "Delete" } else { "Cancel" };
    let end = if how.for_good { " for good" } else { "" };
    desk.confirm(&format!("{verb} {} calls of {what} that wait{end}?", number(matched)))?;

    let (signals, mut still) = (Signals::listen()?, Still::new(desk, &names, &halt));
    let said = why(&by(), because(how.reason.as_deref()).as_deref());
    let mut taken = Taken::default();
    let work = async {
        still.begin().await?;
        taking.take(&mut still, &said, &mut taken).await
    };
    let done = signals.heeded(&halt, work).await;
    let resumed = still.end().await;
    if !still.has_begun() {
        return resumed.and(done);
    }
    tell(desk, &names, how, taken.done).await;
    let state = if done.is_ok() { "done" } else { "stopped" };
    print(desk, &names, how, state, (matched, &taken))?;
    resumed?;
    done?;
    taken.reason().map_or(Ok(()), |reason| Err(Failure::Cannot(reason)))
}

/// Notes in the audit what was done.
async fn tell(desk: &Desk, names: &Names, how: &Purging, done: u64) {
    let action = Action {
        action: if how.for_good { "purge-drop" } else { "purge" }.to_owned(),
        filter: how.which.function.as_ref().map(|function| json!({ "function": function })),
        count: Some(done),
        reason: because(how.reason.as_deref()),
        ..Action::default()
    };
    note(desk, names, action).await;
}

fn what(names: &Names, how: &Purging) -> String {
    match &how.which.function {
        Some(function) => format!("the function {function} of {}", names.queue),
        None => names.queue.clone(),
    }
}

fn print(
    desk: &Desk,
    names: &Names,
    how: &Purging,
    state: &str,
    (matched, taken): (u64, &Taken),
) -> Result<(), Failure> {
    // Workers were quicker with these.
    let failed = taken.failed();
    let skipped = matched.saturating_sub(taken.done).saturating_sub(failed);
    let word = if how.for_good { "dropped" } else { "cancelled" };
    if desk.output == Output::Json {
        return out::json(&json!({
            "queue": names.queue, "function": how.which.function, "state": state, "matched": matched,
            word: taken.done, "skipped": if state == "dry-run" { 0 } else { skipped }, "failed": failed,
        }));
    }
    out::print(&if state == "dry-run" {
        format!("{} calls of {} wait, and would be {word}\n", number(matched), what(names, how))
    } else {
        format!(
            "{state}: {} calls of {} waited, {} {word}, {} skipped, {} failed\n",
            number(matched),
            what(names, how),
            number(taken.done),
            number(skipped),
            number(failed)
        )
    });
    Ok(())
}

/// Whether a call of this function is meant.
fn is_meant(functions: &[FunctionName], function: Option<&FunctionName>) -> bool {
    functions.is_empty() || function.is_some_and(|function| functions.contains(function))
}
