//! `queue-worker queue`: pauses a queue or one of its functions, resumes it, takes away what waits, and says
//! how much there is of everything.

mod purge;
pub(crate) mod stats;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    audit::{because, note},
    cli::{Output, Pausing, QueueCommand},
    desk::Desk,
    end::{Failure, cannot},
    out::{self, Table, or_dash, time},
};
use crate::{
    broker::{
        pauses::Record,
        streams::{consumers::make_held, desired},
    },
    message::{
        audit::Action,
        decode::FunctionName,
        envelope::rfc3339,
        names::Names,
        pause::{MOST, Pause, Pauses},
    },
};

/// How often a record is tried to be written while others write theirs.
const TRIES: usize = 50;

/// Does what was asked for.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn run(desk: &Desk, command: QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::Stats => stats::stats(desk).await,
        QueueCommand::Pause { which, reason } => {
            let names = desk.queue()?;
            print(desk, &names, &pause(desk, &names, &which, reason.as_deref()).await?)
        }
        QueueCommand::Resume { which } => {
            let names = desk.queue()?;
            print(desk, &names, &resume(desk, &names, &which).await?)
        }
        QueueCommand::Purge(how) => purge::purge(desk, &how).await,
    }
}

/// The function that is meant, under all its names: with the namespace of those that have none, and without.
fn functions(desk: &Desk, names: &Names, which: &Pausing) -> Result<Vec<FunctionName>, Failure> {
    let Some(name) = which.function.as_deref() else { return Ok(Vec::new()) };
    let function = FunctionName::stored(name.to_owned());
    let function = function.map_err(|error| Failure::Usage(format!("--function={name:?}: {error}")))?;
    let alias = desk.alias(names, &function);
    Ok(std::iter::once(function).chain(alias).collect())
}

/// Pauses a queue or a function of it, and returns what is paused then.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn pause(
    desk: &Desk,
    names: &Names,
    which: &Pausing,
    reason: Option<&str>,
) -> Result<Pauses, Failure> {
    let functions = functions(desk, names, which)?;
    desk.ensure_operations(names).await?;
    let record = Record::new(&desk.jetstream, names);
    for function in &functions {
        place(desk, names, function).await?;
    }
    let pause = Pause { since: Some(desk.now()), by: desk.by(), reason: because(reason), purging: None };
    let after = write(&record, |pauses| {
        if functions.is_empty() {
            // A purge's own would end with it.
            pauses.queue.take_if(|pause| pause.purging.is_some());
            pauses.queue.get_or_insert_with(|| pause.clone());
        }
        for function in &functions {
            pauses.functions.entry(function.to_string()).or_insert_with(|| pause.clone());
        }
        let many = pauses.functions.len();
        if many > MOST {
            return Err(Failure::Conflict(format!(
                "{many} functions would be paused, and {MOST} are the most"
            )));
        }
        Ok(())
    })
    .await?;
    tell(desk, names, "pause", which, reason).await;
    if reason.is_some() && !now_paused(&after, &functions).any(|known| known == &pause) {
        desk.complain("it was paused already: since when, by whom and why stay as they were");
    }
    Ok(after)
}

/// The pauses of these functions, or of the queue where there are none.
fn now_paused<'p>(pauses: &'p Pauses, functions: &[FunctionName]) -> impl Iterator<Item = &'p Pause> {
    let queue = pauses.queue.iter().filter(|_| functions.is_empty());
    queue.chain(functions.iter().filter_map(|function| pauses.functions.get(function.as_str())))
}

/// Notes in the audit what was done.
async fn tell(desk: &Desk, names: &Names, word: &str, which: &Pausing, reason: Option<&str>) {
    let action = Action {
        action: word.to_owned(),
        filter: which.function.as_ref().map(|function| json!({ "function": function })),
        reason: reason.map(str::to_owned),
        ..Action::default()
    };
    note(desk, names, action).await;
}

/// Makes the place where calls of a function are held: it stays when that is resumed, until what is held has
/// been called.
async fn place(desk: &Desk, names: &Names, function: &FunctionName) -> Result<(), Failure> {
    let wanted = desired::Consumer::held(names, function);
    if desk.stream(&wanted.stream).await?.is_none() {
        return Err(Failure::Cannot(format!(
            "there is no stream {}: no worker has served the queue {} yet",
            wanted.stream, names.queue
        )));
    }
    let held = Record::new(&desk.jetstream, names).held().await.map_err(cannot)?;
    if held.contains_key(function) {
        return Ok(());
    }
    let (stream, consumer) = (&wanted.stream, &wanted.name);
    if !desk.config.nats.manage {
        let settings = wanted.settings(&desk.config).map(|settings| settings.to_string());
        return Err(Failure::Cannot(format!(
            "stream {stream} has no consumer {consumer}, and nats_manage=false: create it as {}",
            settings.unwrap_or_default()
        )));
    }
    if held.len() >= MOST {
        tidy(desk, names, &held).await?;
    }
    make_held(&desk.jetstream, &desk.config, &wanted)
        .await
        .map_err(|error| Failure::Cannot(format!("consumer {consumer} of stream {stream}: {error}")))
}

/// Removes the places of functions that are paused no more and of which nothing is held.
async fn tidy(desk: &Desk, names: &Names, held: &BTreeMap<FunctionName, u64>) -> Result<(), Failure> {
    let (pauses, _) = Record::new(&desk.jetstream, names).read().await.map_err(cannot)?;
    for (function, _) in held.iter().filter(|(_, held)| **held == 0) {
        if !pauses.functions.contains_key(function.as_str()) {
            let consumer = Names::held_consumer(function);
            desk.jetstream.delete_consumer(&names.retries, &consumer).await.map_err(cannot)?;
        }
    }
    Ok(())
}

/// Ends a pause, and returns what is paused then.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn resume(desk: &Desk, names: &Names, which: &Pausing) -> Result<Pauses, Failure> {
    let functions = functions(desk, names, which)?;
    let record = Record::new(&desk.jetstream, names);
    for function in &functions {
        // Somebody may have removed it meanwhile.
        let held = desk.jetstream.last_stored(&names.retries, &names.held_subjects(function)).await;
        if held.is_ok_and(|held| held.is_some()) {
            place(desk, names, function).await?;
        }
    }
    let after = write(&record, |pauses| {
        let resumed = if functions.is_empty() {
            pauses.queue.take().is_some()
        } else {
            functions.iter().filter(|one| pauses.functions.remove(one.as_str()).is_some()).count() > 0
        };
        if resumed { Ok(()) } else { Err(Failure::Nothing(not_paused(names, which, pauses))) }
    })
    .await?;
    tell(desk, names, "resume", which, None).await;
    Ok(after)
}

fn not_paused(names: &Names, which: &Pausing, pauses: &Pauses) -> String {
    let what = match &which.function {
        Some(function) => format!("the function {function} of the queue {}", names.queue),
        None => format!("the queue {}", names.queue),
    };
    let others: Vec<_> = pauses.functions.keys().map(String::as_str).collect();
    match (which.function.is_none(), others.is_empty()) {
        (true, false) => format!(
            "{what} is not paused; of its functions these are, which --function resumes: {}",
            others.join(", ")
        ),
        _ => format!("{what} is not paused"),
    }
}

/// Changes the record, and returns what it says then.
async fn write(
    record: &Record,
    change: impl Fn(&mut Pauses) -> Result<(), Failure>,
) -> Result<Pauses, Failure> {
    for _ in 0..TRIES {
        let (mut pauses, revision) = record.read().await.map_err(cannot)?;
        let before = pauses.clone();
        change(&mut pauses)?;
        if pauses == before || record.write(&pauses, revision).await.map_err(cannot)? {
            return Ok(pauses);
        }
    }
    Err(cannot("others are pausing and resuming just now; try again"))
}

/// What is paused, as JSON has it, with more about the queue.
pub(crate) fn told(pauses: &Pauses, more: Value) -> Value {
    let told = |function: Option<&str>, pause: &Pause| {
        let mut told = json!({ "since": pause.since.map(rfc3339), "by": pause.by, "reason": pause.reason });
        if let (Value::Object(told), Some(function)) = (&mut told, function) {
            told.insert("function".to_owned(), function.into());
        }
        told
    };
    let functions = pauses.functions.iter().map(|(function, pause)| told(Some(function), pause));
    let mut all = json!({
        "paused": pauses.queue.is_some(), "pause": pauses.queue.as_ref().map(|pause| told(None, pause)),
        "pausedFunctions": functions.collect::<Vec<_>>(),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    all
}

fn print(desk: &Desk, names: &Names, pauses: &Pauses) -> Result<(), Failure> {
    if desk.output == Output::Json {
        return out::json(&told(pauses, json!({ "queue": names.queue })));
    }
    if pauses.queue.is_none() && pauses.functions.is_empty() {
        out::print(&format!("nothing of {} is paused\n", names.queue));
    } else {
        out::print(&table(&rows(&names.queue, pauses)));
    }
    Ok(())
}

/// What is paused of a queue, a row each.
fn rows(queue: &str, pauses: &Pauses) -> Vec<Vec<String>> {
    let row = |what: &str, pause: &Pause| {
        vec![
            queue.to_owned(),
            what.to_owned(),
            pause.since.map(time).unwrap_or_default(),
            pause.by.clone(),
            or_dash(pause.reason.as_deref()),
        ]
    };
    let whole = pauses.queue.iter().map(|pause| row("the whole queue", pause));
    whole.chain(pauses.functions.iter().map(|(function, pause)| row(function, pause))).collect()
}

fn table(rows: &[Vec<String>]) -> String {
    Table::new(&["QUEUE", "PAUSED", "SINCE", "BY", "REASON"]).rows(rows)
}
