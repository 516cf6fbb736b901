//! How much there is of everything in a queue.

use std::time::Duration;

use serde_json::{Value, json};

use super::{rows, table, told};
use crate::{
    broker::{
        jetstream::{ApiError, ConsumerInfo, code},
        pauses::Record,
    },
    message::{
        names::{DUE_CONSUMER, Names},
        pause::Pauses,
    },
    operate::{
        cli::Output,
        desk::Desk,
        end::{Failure, cannot},
        out::{self, Table, number},
    },
    text::duration,
};

/// The amounts of a queue.
pub(crate) struct Stats {
    names: Names,
    pauses: Pauses,
    /// Messages that no worker has yet, and those that some have.
    fresh: (u64, u64),
    due: (u64, u64),
    parked: u64,
    held: u64,
    dead: u64,
    /// How long the first message that no worker has yet has been there.
    oldest: Option<Duration>,
}

/// Says how much there is.
///
/// # Errors
/// See [`Failure`].
pub(super) async fn stats(desk: &Desk) -> Result<(), Failure> {
    let mut all = Vec::new();
    for names in desk.queues()? {
        all.extend(read(desk, names).await?);
    }
    if desk.output == Output::Json {
        out::json(&json!({ "queues": all.iter().map(document).collect::<Vec<_>>() }))?;
    } else if !all.is_empty() {
        let titles =
            ["QUEUE", "PAUSED", "PENDING", "OLDEST", "RUNNING", "DUE", "PARKED", "HELD", "DEAD LETTERS"];
        out::print(&Table::new(&titles).rows(&all.iter().map(row).collect::<Vec<_>>()));
        let paused: Vec<_> = all.iter().flat_map(|one| rows(&one.names.queue, &one.pauses)).collect();
        if !paused.is_empty() {
            out::print(&format!("\n{}", table(&paused)));
        }
    }
    if all.is_empty() {
        return Err(Failure::Nothing("there is no such queue: no worker has served it yet".to_owned()));
    }
    Ok(())
}

/// Those of one queue; `None` where there is none.
///
/// # Errors
/// See [`Failure`].
pub(crate) async fn read(desk: &Desk, names: Names) -> Result<Option<Stats>, Failure> {
    let (queue, retries) = (desk.stream(&names.stream).await?, desk.stream(&names.retries).await?);
    let Some((_, retries)) = queue.zip(retries) else { return Ok(None) };
    let record = Record::new(&desk.jetstream, &names);
    let durable = desk.config.queues.iter().find(|queue| queue.name == names.queue);
    let durable = durable.map_or("faas-workers", |queue| queue.durable.as_str());
    let fresh = consumer(desk, &names.stream, durable).await?;
    let due = consumer(desk, &names.retries, DUE_CONSUMER).await?;
    let (pauses, _) = record.read().await.map_err(cannot)?;
    let held = record.held().await.map_err(cannot)?.values().sum();
    let known = due.as_ref().map_or(0, ConsumerInfo::unsettled).saturating_add(held);
    let dead = desk.stream(&names.dead).await?.map_or(0, |stream| stream.state.messages);
    let oldest = match &fresh {
        Some(fresh) if fresh.num_pending > 0 => oldest(desk, &names, fresh).await?,
        _ => None,
    };
    let amounts = |consumer: &Option<ConsumerInfo>| {
        consumer.as_ref().map_or((0, 0), |info| (info.num_pending, info.num_ack_pending))
    };
    Ok(Some(Stats {
        pauses,
        fresh: amounts(&fresh),
        due: amounts(&due),
        parked: retries.state.messages.saturating_sub(known),
        held,
        dead,
        oldest,
        names,
    }))
}

/// A consumer, where there is one.
pub(in crate::operate::queue) async fn consumer(
    desk: &Desk,
    stream: &str,
    consumer: &str,
) -> Result<Option<ConsumerInfo>, Failure> {
    match desk.jetstream.consumer(stream, consumer).await {
        Ok(info) => Ok(Some(info)),
        Err(ApiError::Refused { code: code::CONSUMER_NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(Failure::Cannot(format!("consumer {consumer} of stream {stream}: {error}"))),
    }
}

async fn oldest(desk: &Desk, names: &Names, fresh: &ConsumerInfo) -> Result<Option<Duration>, Failure> {
    let next = fresh.delivered.stream_seq.saturating_add(1);
    let mut oldest = None;
    for filter in fresh.config.filters() {
        let stored = desk.jetstream.next_stored(&names.stream, filter, next).await.map_err(cannot)?;
        let age = stored.and_then(|stored| desk.now().duration_since(stored.time).ok());
        oldest = oldest.max(age);
    }
    Ok(oldest)
}

/// As JSON has them.
pub(crate) fn document(stats: &Stats) -> Value {
    let amounts = json!({
        "queue": stats.names.queue, "stream": stats.names.stream, "pending": stats.fresh.0,
        "oldestPendingSeconds": stats.oldest.map(|age| age.as_secs()),
        "running": stats.fresh.1 + stats.due.1, "due": stats.due.0, "parked": stats.parked,
        "held": stats.held, "deadLetters": stats.dead,
    });
    told(&stats.pauses, amounts)
}

fn row(stats: &Stats) -> Vec<String> {
    let functions = stats.pauses.functions.len();
    let paused = match (&stats.pauses.queue, functions) {
        (Some(_), _) => "yes".to_owned(),
        (None, 0) => "no".to_owned(),
        (None, 1) => "1 function".to_owned(),
        (None, _) => format!("{functions} functions"),
    };
    let oldest = stats.oldest.map(|age| duration::shown(Duration::from_secs(age.as_secs())));
    vec![
        stats.names.queue.clone(),
        paused,
        number(stats.fresh.0),
        oldest.unwrap_or_else(|| "-".to_owned()),
        number(stats.fresh.1 + stats.due.1),
        number(stats.due.0),
        number(stats.parked),
        number(stats.held),
        number(stats.dead),
    ]
}
