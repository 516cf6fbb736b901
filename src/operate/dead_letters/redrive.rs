//! Sends dead letters round again: makes the operation, and follows it.

use serde_json::json;

use super::make::{Counted, Wanted, make};
use crate::{
    message::{
        decode::FunctionName,
        letter::choice::Choice,
        operation::{Canary, Kind, MOST_CANARIES},
    },
    operate::{
        cli::{Output, Redriving},
        desk::Desk,
        end::Failure,
        follow::{self, Ending},
        out::{self, number},
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
        return dry(desk, &counted, &wanted.choice, &names.queue);
    }
    if counted.taken > 0 {
        eprintln!("queue-worker: {}", counted.others());
    }
    let (many, queue) = (number(counted.matched - counted.taken), &names.queue);
    if counted.taken < counted.matched {
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
    let canary = how.canary.map(|calls| Canary {
        calls,
        require: how.require.unwrap_or(100),
        sent: Vec::new(),
        before: 0,
        passed: false,
    });
    if canary.as_ref().is_some_and(|canary| canary.calls > MOST_CANARIES) {
        return Err(usage(format!("--canary: expected at most {MOST_CANARIES}")));
    }
    let reason = how.reason.as_deref().map(|reason| crate::text::line::cut(reason, 256).to_owned());
    Ok(Wanted { kind: Kind::Redrive, choice, rate: how.rate, to: how.to.clone(), canary, reason })
}

fn dry(desk: &Desk, counted: &Counted, choice: &Choice, queue: &str) -> Result<(), Failure> {
    match desk.output {
        Output::Json => out::json(&json!({
            "operation": null, "state": "dry-run", "matched": counted.matched, "redriven": 0,
            "skipped": counted.taken, "failed": 0,
        })),
        Output::Table => {
            let many = number(counted.matched - counted.taken);
            out::print(&format!("{many} dead letters of {queue} ({choice}) would be sent round again\n"));
            if counted.taken > 0 {
                out::print(&format!("{}\n", counted.others()));
            }
            Ok(())
        }
    }
}
