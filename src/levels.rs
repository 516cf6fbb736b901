//! The movers of the timer *levels*. They play the part that the broker's own scheduler plays elsewhere:
//!
//! ```text
//!  Q-retries.l3.f.ID.HOP ─pull─▶ due? ─yes─▶ publish to Q-retries.due.f.ID.HOP, then acknowledge
//!                         ▲       │ no
//!                         └───────┴ handed back until then
//! ```
//!
//! Each level has a consumer, and each consumer with work a mover. That a message is handed back is only a hint to the broker:
//! the due time stands in the message, so one that is brought too soon is handed back again. A mover that dies between
//! publishing and acknowledging leaves a message that is brought once more and counts as a duplicate, by its id for as long
//! as the broker remembers ids and by its subject for as long as the copy waits there. A mover needs no permit and no
//! lease: calls come from the consumer of the due ones alone.

use std::{collections::BTreeMap, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    broker::{Ack, Arrival, Ask, Broker, BrokerError, Source},
    consumer::{Bound, Consumer},
    jetstream::{ApiError, JetStream, number, own_headers},
    names::Names,
    pause::Pause,
    timer::{HIGHEST, Timer, brought_due, due_in, remaining},
};

/// How soon a message is brought again after its mover died. Nothing runs under this lease but a publish.
pub const ACK_WAIT: Duration = Duration::from_secs(5);
/// How often the levels are looked at.
const LOOK: Duration = Duration::from_secs(3);
/// The most messages and bytes that one mover has in its hands.
const HANDFUL: (usize, usize) = (128, 16 << 20);
/// The pause after a request that failed, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A message that the broker did not take is brought again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// Counting overdue messages ends here.
const MOST_OVERDUE: u64 = 50;
/// One that it never will is looked at this seldom.
const SELDOM: Duration = Duration::from_secs(60);

/// A level's consumer as the broker knows it.
#[derive(Debug, Clone)]
pub struct Level {
    /// Which level.
    pub k: u32,
    /// Messages in it that are not settled.
    pub held: u64,
    /// All up to here are settled.
    pub floor: u64,
    /// The consumer's settings; absent where the broker knows only its name just now.
    pub settings: Option<Value>,
}

/// The levels that have a consumer.
///
/// # Errors
/// Where the broker does not answer.
pub async fn look(jetstream: &JetStream, names: &Names) -> Result<Vec<Level>, ApiError> {
    Ok(levels(&jetstream.consumers(&names.retries).await?))
}

/// The levels that have none.
pub fn absent(found: &[Level]) -> impl Iterator<Item = u32> {
    (0..=HIGHEST).filter(|k| found.iter().all(|level| level.k != *k))
}

/// The levels in a list of the consumers of the stream of retries.
pub fn levels(answer: &Value) -> Vec<Level> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array).into_iter().flatten();
    let told = list("consumers").filter_map(|info| {
        let k = Names::level_of(info.get("name")?.as_str()?)?;
        let held = number(info, "/num_pending").saturating_add(number(info, "/num_ack_pending"));
        Some(Level { k, held, floor: number(info, "/ack_floor/stream_seq"), settings: info.get("config").cloned() })
    });
    // Those whose own server did not answer in time.
    let silent = list("missing").filter_map(|name| Some(Level { k: Names::level_of(name.as_str()?)?, held: 0, floor: 0, settings: None }));
    told.chain(silent).collect()
}

/// How many retries in the levels are overdue by more than `grace`, up to fifty. Only the oldest of each level is looked
/// at, and what follows it as long as that is overdue as well: delays in a level differ by less than a factor of two, so that one
/// behind others that wait rightly comes to the front in less than its own delay.
///
/// # Errors
/// Where the broker does not answer.
pub async fn overdue(jetstream: &JetStream, names: &Names, grace: Duration) -> Result<u64, ApiError> {
    let mut overdue = 0;
    for Level { k, held, floor, .. } in look(jetstream, names).await? {
        let mut next = floor.saturating_add(1);
        for _ in 0..held {
            let question = json!({ "seq": next, "next_by_subj": names.level_subjects(k) });
            let answer = match jetstream.api(&format!("STREAM.MSG.GET.{}", names.retries), &question).await {
                Ok(answer) => answer,
                Err(ApiError::Refused { .. }) => break,
                Err(error) => return Err(error),
            };
            let block = answer.pointer("/message/hdrs").and_then(Value::as_str).and_then(|text| BASE64_STANDARD.decode(text).ok());
            let due = due_in(&own_headers(&block.unwrap_or_default()));
            if due.is_some_and(|due| due + grace >= jetstream.now_at_least()) {
                break;
            }
            overdue += 1;
            if overdue == MOST_OVERDUE {
                return Ok(overdue);
            }
            next = number(&answer, "/message/seq").saturating_add(1);
        }
    }
    Ok(overdue)
}

/// Moves what comes due until `stop`. With levels each has its mover; with another timer those that still hold something, which
/// a worker before this one or beside it parked there.
pub async fn run(jetstream: JetStream, names: Names, timer: Timer, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut movers: BTreeMap<u32, CancellationToken> = BTreeMap::new();
    while !stop.is_cancelled() {
        match look(&jetstream, &names).await {
            Ok(levels) => {
                for Level { k, held, .. } in levels {
                    let wanted = held > 0 || timer == Timer::Levels;
                    if wanted && !movers.contains_key(&k) {
                        let stop = stop.child_token();
                        movers.insert(k, stop.clone());
                        tasks.spawn(Mover::new(&jetstream, &names, k, stop).run());
                    } else if !wanted && let Some(idle) = movers.remove(&k) {
                        idle.cancel();
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the levels were not looked at"),
        }
        let _ = stop.run_until_cancelled(sleep(LOOK)).await;
    }
    tasks.close();
    tasks.wait().await;
}

/// Moves what comes due in one level.
struct Mover {
    jetstream: JetStream,
    names: Names,
    source: Consumer,
    stop: CancellationToken,
}

impl Mover {
    fn new(jetstream: &JetStream, names: &Names, k: u32, stop: CancellationToken) -> Self {
        let bound = Bound {
            stream: names.retries.clone(),
            consumer: Names::level_consumer(k),
            ack_wait: ACK_WAIT,
            max_batch: usize::MAX,
            max_expires: Duration::MAX,
        };
        Self { jetstream: jetstream.clone(), names: names.clone(), source: Consumer::new(jetstream, bound), stop }
    }

    async fn run(mut self) {
        let mut pause = Pause::new(PAUSE);
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(()) => pause.reset(),
                Err(error) => {
                    tracing::debug!(%error, "moving again");
                    let _ = stop.run_until_cancelled(pause.rest()).await;
                }
            }
        }
        let left = self.source.close().await;
        let (jetstream, names) = (&self.jetstream, &self.names);
        left.into_iter().map(|arrival| bring(jetstream, names, arrival)).collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
    }

    /// One request and what comes of it.
    async fn round(&mut self) -> Result<(), BrokerError> {
        let Self { jetstream, names, source, stop } = self;
        match stop.run_until_cancelled(source.ask(Ask::AsTheyCome(handful(jetstream.max_payload())))).await {
            None => return Ok(()),
            Some(asked) => asked?,
        }
        let mut hands = FuturesUnordered::new();
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(()) = hands.next() => {}
                next = source.next() => match next {
                    Ok(Some(arrival)) => hands.push(bring(jetstream, names, arrival)),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
            }
        };
        hands.collect::<Vec<()>>().await;
        ended
    }
}

/// How many messages of any size may be in one mover's hands.
fn handful(max_payload: usize) -> usize {
    let (messages, bytes) = HANDFUL;
    (bytes / max_payload.max(1)).clamp(1, messages)
}

/// Brings a message to the due ones if its time has come, and hands it back until then if not.
async fn bring(jetstream: &JetStream, names: &Names, arrival: Arrival) {
    let wait = remaining(&arrival.headers, jetstream.now_at_least());
    let ack = if wait.is_zero() { moved(jetstream, names, &arrival).await } else { Ack::Later(wait) };
    // Where this is lost the message comes again after `ACK_WAIT`, and is then a duplicate or handed back again.
    if let Err(error) = jetstream.acknowledge(&arrival.reply, ack, true).await {
        tracing::debug!(subject = arrival.subject, %error, "what was said about a parked retry is not confirmed");
    }
}

/// Publishes what is due; returns what is to be said about the parked message.
async fn moved(jetstream: &JetStream, names: &Names, arrival: &Arrival) -> Ack {
    let Some(record) = brought_due(names, &arrival.subject, arrival.sequence, &arrival.headers, arrival.payload.clone()) else {
        return Ack::Later(SELDOM);
    };
    match jetstream.place(&record).await {
        Ok(()) => Ack::Done,
        Err(BrokerError::TooLarge) => {
            tracing::error!(
                subject = arrival.subject,
                "Unstorable: a parked retry has become too large for the broker; it stays where it is"
            );
            Ack::Later(SELDOM)
        }
        Err(error) => {
            tracing::debug!(subject = arrival.subject, %error, "a due retry could not be moved; trying again");
            Ack::Later(AGAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_levels_are_told_from_other_consumers_and_what_waits_in_them_is_counted() {
        let answer = json!({
            "consumers": [
                { "name": "due", "num_pending": 9, "num_ack_pending": 9 },
                { "name": "l0", "num_pending": 2, "num_ack_pending": 3, "config": { "ack_wait": 1 } },
                { "name": "l16", "num_pending": 0, "num_ack_pending": 0 },
                { "name": "l01", "num_pending": 1 }, { "name": "late", "num_pending": 1 }, { "name": "" },
            ],
            "missing": ["l7", "due"],
        });
        let found: Vec<_> = levels(&answer).into_iter().map(|level| (level.k, level.held, level.settings.is_some())).collect();
        assert_eq!(found, [(0, 5, true), (16, 0, false), (7, 0, false)]);
    }

    #[test]
    fn what_a_mover_holds_is_bounded_in_messages_and_in_bytes() {
        for (max_payload, expected) in [(0, 128), (65_536, 128), (1 << 20, 16), (8 << 20, 2), (64 << 20, 1)] {
            assert_eq!(handful(max_payload), expected, "{max_payload}");
        }
    }
}
