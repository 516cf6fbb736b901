//! Looks after parked retries whose schedule did not fire. Where the stream has schedules, a scheduled
//! message that is overdue by a minute (a server's bug) is moved to where its schedule would have sent it.
//! Where it has none any more (a downgrade), nobody else wakes the scheduled messages, and each is moved
//! when it is due. Each round also asks for the broker's time, which the clock learns from, and counts what
//! it finds overdue, there and in the levels: moved or not, for one that is moved time and again says as
//! much about the broker as one that cannot be.

mod parked;
mod walk;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

pub use parked::{Known, Parked, Scheduled};
use walk::{GRACE, State, Walk};

use crate::{
    broker::{jetstream::ApiError, seam::BrokerError},
    message::{
        names::Names,
        timer::{Timer, promoted},
    },
    observe::metrics::Metrics,
};

/// How often scheduled messages are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How often, where nobody else wakes them and the last round saw some.
const ALONE: Duration = Duration::from_secs(1);
/// How often, where there are no schedules and were no scheduled messages.
///
/// Until NATS 2.14: older servers read the whole stream to say that there are none.
const SELDOM: Duration = Duration::from_secs(300);

/// Runs until dropped. `timer` is what this worker parks retries with.
pub async fn run<P: Parked>(parked: &P, names: &Names, timer: Timer, metrics: &Metrics) {
    let mut janitor = Janitor { parked, names, timer, from: 1, looked: None, period: ALONE };
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

struct Janitor<'a, P> {
    parked: &'a P,
    names: &'a Names,
    timer: Timer,
    /// Where the next round goes on.
    from: u64,
    /// When, and on which connection, scheduled messages were last looked for where nothing else wakes them.
    looked: Option<(Instant, u64)>,
    period: Duration,
}

/// The sights of a round.
#[derive(Default)]
struct Seen {
    moved: usize,
    overdue: u64,
    /// Whether there are scheduled messages and no schedules.
    alone: bool,
}

impl<P: Parked> Janitor<'_, P> {
    /// Does what is to be done now, and says how many overdue retries were found.
    async fn look(&mut self) -> Result<u64, ApiError> {
        let Known { messages, schedules } = self.parked.known(self.names).await?;
        if messages == 0 {
            return Ok(0);
        }
        let late = self.parked.overdue_in_levels(self.names, GRACE).await?;
        // Asked anew each time: it may have been another server a moment ago.
        let made = self.parked.connection();
        let lately = self.looked.is_some_and(|(at, on)| on == made && at.elapsed() < SELDOM);
        if lately && !schedules && self.timer != Timer::Schedules {
            return Ok(late);
        }
        let seen = self.round(schedules).await?;
        if seen.moved > 0 {
            tracing::warn!(
                moved = seen.moved,
                "parked retries that no schedule woke have been moved to the due ones"
            );
        }
        self.looked = (!seen.alone).then(|| (Instant::now(), made));
        self.period = if seen.alone { ALONE } else { PERIOD };
        Ok(seen.overdue + late)
    }

    /// Moves the overdue among the oldest scheduled messages and the next ones.
    async fn round(&mut self, schedules: bool) -> Result<Seen, ApiError> {
        let mut seen = Seen::default();
        let now = self.parked.now_at_least();
        // A round that comes to the end leaves the next one to begin anew.
        let mut walk = Walk::new(std::mem::replace(&mut self.from, 1));
        while let Some(next) = walk.ask() {
            let Some(message) = self.parked.scheduled(self.names, next).await? else { return Ok(seen) };
            walk.saw(&message);
            seen.alone = !schedules;
            let State { overdue, asleep } = State::of(&message, schedules, now);
            seen.overdue += u64::from(overdue);
            if asleep {
                seen.moved += usize::from(self.wake(message, schedules).await);
            }
        }
        self.from = walk.stopped();
        Ok(seen)
    }

    /// Moves a scheduled message to the due ones, and says whether it did. One that the broker does not let
    /// go must not stand before all others.
    async fn wake(&self, message: Scheduled, schedules: bool) -> bool {
        let subject = message.subject.clone();
        let moved = if schedules {
            fire(self.parked, self.names, message).await
        } else {
            bring(self.parked, self.names, message).await
        };
        moved.unwrap_or_else(|error| {
            tracing::warn!(subject, %error, "an overdue retry cannot be moved");
            false
        })
    }
}

/// Moves a parked retry to the due ones, if it is still there. `schedules`: whether the broker wakes what is
/// scheduled.
pub(crate) async fn wake<P: Parked>(
    parked: &P,
    names: &Names,
    message: Scheduled,
    schedules: bool,
) -> Result<bool, ApiError> {
    if schedules && message.scheduled {
        fire(parked, names, message).await
    } else {
        bring(parked, names, message).await
    }
}

/// Stores it as due and only then deletes it here: in between it is there twice, and counts once.
async fn bring<P: Parked>(parked: &P, names: &Names, message: Scheduled) -> Result<bool, ApiError> {
    let Scheduled { subject, sequence, headers, payload, .. } = message;
    let Some(record) = promoted(names, &subject, sequence, &headers, payload) else {
        return Ok(false);
    };
    parked.place(&record).await?;
    parked.delete(names, sequence).await?;
    Ok(true)
}

/// Moves it in one step. A message that was brought while there were no schedules, by a worker that did not
/// come to delete the scheduled message, is not moved again.
async fn fire<P: Parked>(parked: &P, names: &Names, message: Scheduled) -> Result<bool, ApiError> {
    let Some(record) = promoted(names, &message.subject, message.sequence, &message.headers, Bytes::new())
    else {
        return Ok(false);
    };
    let (target, brought) = (record.subject, std::slice::from_ref(&record.id));
    let taken = parked.taken_as(&names.retries, &names.retries_probe(), brought).await?;
    if taken.iter().any(Option::is_some) {
        return parked.delete(names, message.sequence).await.map(|()| true);
    }
    match parked.fire(names, &message, &target).await {
        // To do it in one step takes headers that a large message has no room for.
        Err(ApiError::Silent(BrokerError::TooLarge)) => bring(parked, names, message).await,
        done => done,
    }
}
