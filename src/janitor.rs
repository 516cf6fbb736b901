//! Looks after parked retries whose schedule did not fire. Where the stream has schedules, a holder that is overdue by a minute
//! (a server's bug) is moved to where its schedule would have sent it. Where it has none any more (a downgrade), nobody
//! else wakes the holders, and each is moved when it is due. Each round also asks for the broker's time, which the clock
//! learns from, and counts what it finds overdue, there and in the levels: moved or not, for one that is moved time and
//! again says as much about the broker as one that cannot be.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::{
    broker::Broker,
    header,
    jetstream::{ApiError, JetStream, Stored, allows_schedules, number, own_headers},
    levels,
    metrics::Metrics,
    names::{self, Names},
    poison::{block, letter},
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
/// What the header begins with that makes the broker wake a message.
const SCHEDULE: &[u8] = b"\r\nNats-Schedule:";
/// How many holders one round looks at; the next goes on behind them.
const ROUND: usize = 200;
/// How many of these are the oldest of all, whatever the last round saw: one that never fires is among them in the end.
const OLDEST: usize = 50;
/// How much of a header block that cannot be read is kept: headers are carried on up to a bound.
const KEPT: usize = 3 << 10;
/// The most bytes that one round reads, half of them of the oldest.
const BYTES: usize = 8 << 20;

/// Runs until dropped. `timer` is what this worker parks retries with.
pub async fn run(jetstream: &JetStream, names: &Names, timer: Timer, metrics: &Metrics) {
    let mut janitor = Janitor { jetstream, names, timer, from: 1, looked: None, period: ALONE };
    loop {
        sleep(janitor.period).await;
        janitor.period = PERIOD;
        let overdue = janitor.look().await;
        if let Err(error) = &overdue {
            tracing::debug!(%error, "overdue retries were not looked for");
        }
        metrics.set_overdue(overdue.ok());
    }
}

struct Janitor<'a> {
    jetstream: &'a JetStream,
    names: &'a Names,
    timer: Timer,
    /// Where the next round goes on.
    from: u64,
    /// When, and on which connection, holders were last looked for where nothing else wakes them.
    looked: Option<(Instant, u64)>,
    period: Duration,
}

/// What a round saw.
#[derive(Default)]
struct Seen {
    moved: usize,
    overdue: u64,
    /// Whether there are holders and no schedules.
    alone: bool,
}

impl Janitor<'_> {
    /// Does what is to be done now, and says how many overdue retries were found.
    async fn look(&mut self) -> Result<u64, ApiError> {
        let stream = self.jetstream.stream(&self.names.retries).await?;
        if number(&stream, "/state/messages") == 0 {
            return Ok(0);
        }
        let late = levels::overdue(self.jetstream, self.names, GRACE).await?;
        // Asked anew each time: it may have been another server a moment ago.
        let schedules = allows_schedules(&stream);
        let made = self.jetstream.link().borrow().made;
        let lately = self.looked.is_some_and(|(at, on)| on == made && at.elapsed() < SELDOM);
        if lately && !schedules && self.timer != Timer::Schedules {
            return Ok(late);
        }
        let seen = self.round(schedules).await?;
        if seen.moved > 0 {
            tracing::warn!(moved = seen.moved, "parked retries that no schedule woke have been moved to the due ones");
        }
        self.looked = (!seen.alone).then(|| (Instant::now(), made));
        self.period = if seen.alone { ALONE } else { PERIOD };
        Ok(seen.overdue + late)
    }

    /// Moves the overdue among the oldest holders and the next ones.
    async fn round(&mut self, schedules: bool) -> Result<Seen, ApiError> {
        let mut seen = Seen::default();
        let now = self.jetstream.now_at_least();
        // A round that comes to the end leaves the next one to begin anew.
        let (mut next, mut resume) = (1, Some(std::mem::replace(&mut self.from, 1)));
        let mut bytes = 0;
        for nth in 0..ROUND {
            if (nth == OLDEST || bytes > BYTES / 2)
                && let Some(from) = resume.take()
            {
                next = from.max(next);
            }
            let found = self.jetstream.next_stored(&self.names.retries, &self.names.holder_subjects(), next).await?;
            let Some(holder) = found.map(Holder::of) else { return Ok(seen) };
            next = holder.sequence + 1;
            bytes += holder.payload.len();
            seen.alone = !schedules;
            let due = due_in(&holder.headers);
            // Without a time of either kind its time never comes.
            let overdue = due.map_or(schedules && !holder.scheduled, |due| due + GRACE < now);
            seen.overdue += u64::from(overdue);
            // What cannot be read waits for nothing.
            let asleep = if schedules {
                holder.scheduled && (overdue || holder.unreadable)
            } else {
                holder.unreadable || remaining(&holder.headers, now).is_zero()
            };
            if asleep {
                seen.moved += usize::from(holder.wake(self.jetstream, self.names, schedules).await);
            }
            if bytes > BYTES {
                break;
            }
        }
        self.from = next;
        Ok(seen)
    }
}

/// A parked retry, as it is stored.
struct Holder {
    subject: String,
    sequence: u64,
    headers: HeaderMap,
    payload: Bytes,
    /// Whether the broker is to wake it.
    scheduled: bool,
    /// Whether no client could read its headers.
    unreadable: bool,
}

impl Holder {
    fn of(Stored { subject, sequence, block, payload, .. }: Stored) -> Self {
        let scheduled = block.windows(SCHEDULE.len()).any(|header| header == SCHEDULE);
        let unreadable = !block.is_empty() && block::read(&block).is_err();
        let mut headers = own_headers(&block);
        if unreadable {
            // Moved as something that everybody can read, and that no version takes for a call.
            let kept = letter::ways(&block).into_iter().find(|way| way.iter().all(|(_, value)| value.len() <= KEPT));
            for (name, value) in kept.into_iter().flatten().chain([(names::KIND, names::UNREADABLE.to_owned())]) {
                header::put(&mut headers, name, &value);
            }
        }
        Self { subject, sequence, headers, payload, scheduled, unreadable }
    }

    /// Moves it to the due ones, and says whether it did. One that the broker does not let go must not stand before all others.
    async fn wake(self, jetstream: &JetStream, names: &Names, schedules: bool) -> bool {
        let subject = self.subject.clone();
        let moved = if schedules { self.fire(jetstream, names).await } else { self.bring(jetstream, names).await };
        moved.unwrap_or_else(|error| {
            tracing::warn!(subject, %error, "an overdue retry cannot be moved");
            false
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
