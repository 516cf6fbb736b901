//! Looks after parked retries whose schedule did not fire. Where the stream has schedules, a holder that is overdue by a minute
//! (a server's bug) is moved to where its schedule would have sent it. Where it has none any more (a downgrade), nobody
//! else wakes the holders, and each is moved when it is due. Each round also asks for the broker's time, which the clock
//! learns from.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    jetstream::{ApiError, JetStream, allows_schedules, number, own_headers},
    names::Names,
    timer::{Timer, brought_due, due_in, remaining},
};

/// How often holders are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How often, where nobody else wakes them and the last round saw some.
const ALONE: Duration = Duration::from_secs(1);
/// How often, where there are no schedules and were no holders: old servers read the whole stream to say that there are none.
const SELDOM: Duration = Duration::from_secs(300);
/// A holder that has a schedule may be this late: then it did not fire.
const GRACE: Duration = Duration::from_secs(60);
/// How many holders one round looks at; the next goes on behind them.
const ROUND: usize = 200;
/// The most bytes that one round reads.
const BYTES: usize = 8 << 20;

/// Runs until dropped. `timer` is what this worker parks retries with.
pub async fn run(jetstream: &JetStream, names: &Names, timer: Timer) {
    let (mut from, mut period) = (1, ALONE);
    // When, and on which connection, holders were last looked for where nothing else wakes them.
    let mut looked: Option<(Instant, u64)> = None;
    loop {
        sleep(period).await;
        period = PERIOD;
        let Ok(stream) = jetstream.stream(&names.retries).await else { continue };
        if number(&stream, "/state/messages") == 0 {
            continue;
        }
        // Asked anew each time: it may have been another server a moment ago.
        let schedules = allows_schedules(&stream);
        let made = jetstream.link().borrow().made;
        let lately = looked.is_some_and(|(at, on)| on == made && at.elapsed() < SELDOM);
        if lately && !schedules && timer != Timer::Schedules {
            continue;
        }
        match round(jetstream, names, schedules, &mut from).await {
            Ok(seen) => {
                if seen.moved > 0 {
                    tracing::warn!(moved = seen.moved, "parked retries that no schedule woke have been moved to the due ones");
                }
                looked = (!seen.alone).then(|| (Instant::now(), made));
                period = if seen.alone { ALONE } else { PERIOD };
            }
            Err(error) => tracing::debug!(%error, "overdue retries were not looked for"),
        }
    }
}

/// What a round saw.
#[derive(Default)]
struct Seen {
    moved: usize,
    /// Whether there are holders and no schedules.
    alone: bool,
}

/// Moves the overdue among the next holders, from the sequence `from` on.
async fn round(jetstream: &JetStream, names: &Names, schedules: bool, from: &mut u64) -> Result<Seen, ApiError> {
    let mut seen = Seen::default();
    let now = jetstream.now_at_least();
    let mut bytes = 0;
    // A round that comes to the end leaves the next one to begin anew.
    let mut next = std::mem::replace(from, 1);
    for _ in 0..ROUND {
        let question = json!({ "seq": next, "next_by_subj": names.holder_subjects() });
        let answer = match jetstream.api(&format!("STREAM.MSG.GET.{}", names.retries), &question).await {
            Ok(answer) => answer,
            Err(ApiError::Refused { .. }) => return Ok(seen),
            Err(error) => return Err(error),
        };
        let Some(holder) = answer.get("message").and_then(Holder::read) else { return Ok(seen) };
        next = holder.sequence + 1;
        bytes += holder.payload.len();
        seen.alone = !schedules;
        let asleep = match due_in(&holder.headers) {
            Some(due) if schedules => due + GRACE < now,
            None if schedules => false,
            _ => remaining(&holder.headers, now).is_zero(),
        };
        if asleep {
            let subject = holder.subject.clone();
            let moved = if schedules { holder.fire(jetstream, names).await } else { holder.bring(jetstream, names).await };
            match moved {
                Ok(moved) => seen.moved += usize::from(moved),
                // One that the broker does not let go must not stand before all others.
                Err(error) => tracing::warn!(subject, %error, "an overdue retry cannot be moved"),
            }
        }
        if bytes > BYTES {
            break;
        }
    }
    *from = next;
    Ok(seen)
}

/// A parked retry, as it is stored.
struct Holder {
    subject: String,
    sequence: u64,
    headers: HeaderMap,
    payload: Bytes,
}

impl Holder {
    fn read(message: &Value) -> Option<Self> {
        let bytes = |name: &str| message.get(name).and_then(Value::as_str).and_then(|text| BASE64_STANDARD.decode(text).ok());
        Some(Self {
            subject: message.get("subject")?.as_str()?.to_owned(),
            sequence: message.get("seq")?.as_u64()?,
            headers: own_headers(&bytes("hdrs").unwrap_or_default()),
            payload: bytes("data").unwrap_or_default().into(),
        })
    }

    /// Stores it as due and only then deletes it here: in between it is there twice, and counts once.
    async fn bring(self, jetstream: &JetStream, names: &Names) -> Result<bool, ApiError> {
        let Some(record) = brought_due(names, &self.subject, self.sequence, &self.headers, self.payload) else { return Ok(false) };
        jetstream.place(&record).await?;
        jetstream.delete(&names.retries, self.sequence).await?;
        Ok(true)
    }

    async fn fire(self, jetstream: &JetStream, names: &Names) -> Result<bool, ApiError> {
        let Some(target) = names.target_of(&self.subject) else { return Ok(false) };
        Ok(jetstream.fire(&names.retries, &self.subject, &target, self.sequence, self.headers, self.payload).await?)
    }
}
