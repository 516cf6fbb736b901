//! Asks once for many whether anything can have followed from them: a message that is younger than all that
//! was ever stored among the retries and the dead letters has no successor there.
//!
//! The answer is good for those who waited for the question to be sent, and for nobody who comes later: the
//! first worker of a message that was given out twice may store its successor at any time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{
    broker::seam::{Broker, BrokerError},
    message::names::Names,
};

/// Where a question was answered so lately, messages come in numbers, and whoever asks next waits for others
/// first, about as long.
const GATHERING: Duration = Duration::from_millis(1);
/// The streams of a cluster may lie on different servers, whose clocks differ by less.
const CLOCKS: Duration = Duration::from_secs(5);

/// The looks of one queue. Cheap to clone; the clones look together.
#[derive(Debug, Clone, Default)]
pub struct Newest(Arc<Looks>);

#[derive(Debug, Default)]
struct Looks {
    /// How many were begun.
    begun: AtomicU64,
    /// The last one that ended. Whoever holds it is looking.
    last: Mutex<Option<Look>>,
}

#[derive(Debug)]
struct Look {
    number: u64,
    ended: Instant,
    answer: Result<Stored, BrokerError>,
}

/// When the newest message was stored of all that follows from messages; none where there never was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored(Option<SystemTime>);

impl Stored {
    /// Whether something may have followed from a message that was stored at `since`.
    pub fn may_have_followed(self, since: SystemTime, now: SystemTime) -> bool {
        // A message of the future: somebody set the clock back, and times say nothing.
        since > now || self.0.is_some_and(|newest| newest + CLOCKS >= since)
    }
}

impl Newest {
    /// What is newest now, or a little later.
    pub(super) async fn of<B: Broker>(
        &self,
        broker: &B,
        names: &Names,
        dead_letters: bool,
    ) -> Result<Stored, BrokerError> {
        let question = || async {
            let dead = async { if dead_letters { broker.newest(&names.dead).await } else { Ok(None) } };
            let both = tokio::try_join!(broker.newest(&names.retries), dead);
            both.map(|(retries, dead)| Stored(retries.max(dead)))
        };
        self.together(question).await
    }

    /// The answer to a question that is asked after this was called, once for all who wait for it.
    async fn together<F>(&self, question: impl FnOnce() -> F) -> Result<Stored, BrokerError>
    where
        F: Future<Output = Result<Stored, BrokerError>>,
    {
        let Looks { begun, last } = &*self.0;
        let mine = begun.load(Ordering::Relaxed) + 1;
        let mut last = last.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.number >= mine) {
            return look.answer.clone();
        }
        if last.as_ref().is_some_and(|look| look.ended.elapsed() <= GATHERING) {
            sleep(GATHERING).await;
        }
        let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
        let answer = question().await;
        *last = Some(Look { number, ended: Instant::now(), answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_younger_than_all_that_was_stored_has_no_successor() {
        for (newest, since, now, may) in [
            (None, 50, 100, false),
            (Some(40), 50, 100, false),
            (Some(45), 50, 100, true),
            (Some(50), 50, 100, true),
            (Some(60), 50, 100, true),
            // Somebody set the clock back.
            (None, 101, 100, true),
            (Some(40), 101, 100, true),
        ] {
            let stored = Stored(newest.map(at));
            assert_eq!(stored.may_have_followed(at(since), at(now)), may, "{newest:?} {since} {now}");
        }
    }

    /// An answer that takes a second, the `n`th of all.
    async fn answer(asked: &Cell<u64>) -> Result<Stored, BrokerError> {
        asked.set(asked.get() + 1);
        let nth = asked.get();
        sleep(Duration::from_secs(1)).await;
        Ok(Stored(Some(at(nth))))
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_one_question_that_is_asked_after_they_came() {
        let (looks, asked) = (Newest::default(), Cell::new(0));
        let look = |after: u64| {
            let (looks, asked) = (&looks, &asked);
            async move {
                sleep(Duration::from_millis(after)).await;
                looks.together(|| answer(asked)).await.unwrap()
            }
        };
        let nth = |nth| Stored(Some(at(nth)));
        // The first one asks at once, and for the others who come meanwhile the next answer is good enough.
        assert_eq!(join_all([0, 500, 900].map(look)).await, [1, 2, 2].map(nth));
        // Right after that, whoever asks waits for others.
        assert_eq!(join_all([0, 0].map(look)).await, [3, 3].map(nth));
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_it_asks_leaves_the_question_to_the_next() {
        let (looks, asked) = (Newest::default(), Cell::new(0));
        let first = timeout(Duration::from_millis(500), looks.together(|| answer(&asked)));
        let (first, second) = tokio::join!(first, looks.together(|| answer(&asked)));
        assert!(first.is_err());
        assert_eq!(second, Ok(Stored(Some(at(2)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_is_asked_again_by_those_who_ask_again() {
        let (looks, silent) = (Newest::default(), BrokerError::Unavailable("silent".to_owned()));
        let failed = looks.together(|| async { Err(silent.clone()) }).await;
        assert_eq!(failed, Err(silent));
        assert_eq!(looks.together(|| async { Ok(Stored(None)) }).await, Ok(Stored(None)));
    }
}
