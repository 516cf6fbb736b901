//! The promoters of the timer *levels*. They play the part that the broker's own scheduler plays elsewhere:
//!
//! ```text
//!  Q-retries.l3.f.ID.HOP ─pull─▶ due? ─yes─▶ publish to Q-retries.due.f.ID.HOP, then acknowledge
//!                         ▲       │ no
//!                         └───────┴ handed back until then, for five minutes at most
//! ```
//!
//! Each level has a consumer, and each consumer with work a promoter. That a message is handed back is only a
//! hint to the broker: the due time stands in the message, so one that is brought too soon is handed back
//! again. A promoter that dies between publishing and acknowledging leaves a message that is brought once
//! more and counts as a duplicate, by its id for as long as the broker remembers ids and by its subject for
//! as long as the copy waits there. Where the broker's clock was set back in between, it is not due any more,
//! and its id is looked for instead. A promoter needs no permit and no lease: calls come from the consumer of
//! the due ones alone. A message that is handed back takes a place in its level's consumer, and [`room`]
//! sees to it that there are enough.
//!
//! Until NATS 2.14: without this timer retries could not wait on older servers. Newer ones use it on request,
//! and for a stream of retries that cannot have schedules.

mod promoter;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use promoter::Promoter;

use crate::{
    broker::{
        consumer::{Bound, Consumer},
        jetstream::{ApiError, JetStream, nanoseconds},
        levels::{ACK_WAIT, Level, list, room},
        poison::Burial,
        seam::Broker,
    },
    message::{
        names::Names,
        timer::{Timer, due_in},
    },
    tasks::supervisor::{Part, Supervisor},
};

/// How often the levels are looked at.
pub const LOOK: Duration = Duration::from_secs(3);
/// Counting overdue messages ends here.
const MOST_OVERDUE: u64 = 50;

/// How many retries in the levels are overdue by more than `grace`, up to fifty. Only the oldest of each
/// level is looked at, and what follows it as long as that is overdue as well: delays in a level differ by
/// less than a factor of two, so that one behind others that wait rightly comes to the front in less than its
/// own delay.
///
/// # Errors
/// Where the broker does not answer.
pub async fn overdue(jetstream: &JetStream, names: &Names, grace: Duration) -> Result<u64, ApiError> {
    let mut overdue = 0;
    for Level { k, held, floor, .. } in list(jetstream, names).await? {
        let mut next = floor.saturating_add(1);
        for _ in 0..held {
            let Some(stored) = jetstream.next_stored(&names.retries, &names.level_subjects(k), next).await?
            else {
                break;
            };
            let due = due_in(&stored.headers());
            if due.is_some_and(|due| due + grace >= jetstream.now_at_least()) {
                break;
            }
            overdue += 1;
            if overdue == MOST_OVERDUE {
                return Ok(overdue);
            }
            next = stored.sequence.saturating_add(1);
        }
    }
    Ok(overdue)
}

/// Moves what comes due until `stop`. With levels each has its promoter; with another timer those that still
/// hold something, which a worker before this one or beside it parked there. Levels that fill get room, where
/// the worker may change consumers (`manage`).
pub(crate) async fn run(
    jetstream: JetStream,
    burial: Burial,
    timer: Timer,
    manage: bool,
    supervisor: Supervisor,
    stop: CancellationToken,
) {
    let names = &burial.names;
    let tasks = TaskTracker::new();
    // Should this end in a panic, no promoter is left without it.
    let stop = stop.child_token();
    let _over = stop.clone().drop_guard();
    let mut promoters: BTreeMap<u32, (CancellationToken, Arc<AtomicU64>)> = BTreeMap::new();
    let mut narrow = BTreeSet::new();
    while !stop.is_cancelled() {
        match list(&jetstream, names).await {
            Ok(levels) => {
                make_room(&jetstream, names, &levels, manage, &mut narrow).await;
                for Level { k, held, .. } in levels {
                    if held == 0 && timer != Timer::Levels {
                        if let Some((idle, _)) = promoters.remove(&k) {
                            idle.cancel();
                        }
                        continue;
                    }
                    let (_, known) = promoters.entry(k).or_insert_with(|| {
                        let (stop, held) = (stop.child_token(), Arc::default());
                        let (jetstream, burial, supervisor) =
                            (jetstream.clone(), burial.clone(), supervisor.clone());
                        tasks.spawn(keep_moving(
                            jetstream,
                            burial,
                            k,
                            Arc::clone(&held),
                            supervisor,
                            stop.clone(),
                        ));
                        (stop, held)
                    });
                    known.store(held, Ordering::Relaxed);
                }
            }
            Err(error) => tracing::debug!(%error, "the levels were not looked at"),
        }
        let _ = stop.run_until_cancelled(sleep(LOOK)).await;
    }
    tasks.close();
    tasks.wait().await;
}

/// Gives room to the levels that fill. Of one that stays `narrow` is said once what follows from it.
async fn make_room(
    jetstream: &JetStream,
    names: &Names,
    levels: &[Level],
    manage: bool,
    narrow: &mut BTreeSet<u32>,
) {
    for level in levels {
        let made = if manage { room::make(jetstream, names, level).await } else { Ok(()) };
        let refused = matches!(made, Err(ApiError::Refused { .. }));
        let reason = made.err().map_or_else(|| "nats_manage=false".to_owned(), |error| error.to_string());
        if (refused || !manage) && room::is_crowded(level) && narrow.insert(level.k) {
            let (stream, consumer) = (&names.retries, Names::level_consumer(level.k));
            tracing::warn!(
                stream,
                consumer,
                reason,
                "a level holds more retries than its consumer's max_ack_pending: those behind are late until \
                    others leave; raise it"
            );
        }
    }
}

/// Keeps the promoter of level `k` moving.
async fn keep_moving(
    jetstream: JetStream,
    burial: Burial,
    k: u32,
    held: Arc<AtomicU64>,
    supervisor: Supervisor,
    stop: CancellationToken,
) {
    let whose = format!("level {k} of {}", burial.names.queue);
    let start = || {
        let (broker, source) = (jetstream.clone(), consumer(&jetstream, &burial, k));
        Promoter { broker, names: burial.names.clone(), source, held: Arc::clone(&held), stop: stop.clone() }
            .run()
    };
    // Promoters are never given up.
    let _ = supervisor.keep(Part::Promoter, &whose, &stop, start).await;
}

fn consumer(jetstream: &JetStream, burial: &Burial, k: u32) -> Consumer {
    let bound = Bound::new(
        &burial.names.retries,
        &Names::level_consumer(k),
        json!({ "ack_wait": nanoseconds(ACK_WAIT) }).into(),
    );
    Consumer::new(jetstream, bound, burial.clone())
}
