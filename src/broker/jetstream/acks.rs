//! Acknowledgements of finished calls, confirmed in company.
//!
//! The broker confirms an acknowledgement that asks for it, and a confirmation costs it and the worker about
//! as much as the acknowledgement. But a consumer takes those of one connection in their order: one that is
//! confirmed confirms those before it. So the calls that end while a confirmation is on its way send theirs
//! at once and do not ask, and the first of them sends its own when it has come, and asks for all.
//!
//! ```text
//!  the first to come leads ──▶ the others send theirs ──▶ it sends its own, confirmed ──▶ all are told
//!                              │                                                         │
//!                              └── until the company before it was told, or a while ◀────┘
//! ```
//!
//! If the connection was made anew meanwhile, some may be lost, and nobody knows which: nothing is confirmed,
//! and each is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{sync::watch, task::yield_now, time::timeout};

use super::{JetStream, Unanswered};
use crate::broker::{ack_subject::consumer_of, seam::BrokerError};

/// What says that a delivery is settled.
const DONE: Bytes = Bytes::from_static(b"+ACK");

/// A company waits so long for the one before it: a confirmation may take seconds, or be lost.
const WHILE: Duration = Duration::from_millis(10);

/// What became of those that were sent together; none as long as it is open.
type Outcome = Option<Result<(), BrokerError>>;

/// The companies, by consumer. Cheap to clone; the clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Acks(Arc<Mutex<BTreeMap<String, Companies>>>);

/// A consumer's companies.
#[derive(Debug, Default)]
struct Companies {
    /// What becomes of the one that gathers.
    gathers: Option<watch::Sender<Outcome>>,
    /// What becomes of the one that departed last.
    departed: Option<watch::Receiver<Outcome>>,
}

/// The place in a company.
#[derive(Debug)]
enum Joined {
    Leads(Leader),
    Follows(watch::Receiver<Outcome>),
    /// Not in it: it could not be sent before the leader's.
    Alone,
}

/// Whoever came first. Goes it away, the others learn that nobody knows what became of theirs.
#[derive(Debug)]
struct Leader {
    acks: Acks,
    /// The consumer of its company, until it departs.
    consumer: Option<String>,
    /// How many connections had been made before anything of its company was sent.
    connects: u64,
    before: Option<watch::Receiver<Outcome>>,
}

impl Acks {
    /// Joins the company that gathers, if its own can be sent now, or leads the next one.
    fn join(&self, consumer: &str, connects: u64, send: impl FnOnce() -> bool) -> Joined {
        let mut companies = self.companies();
        if let Some(company) = companies.get(consumer).and_then(|its| its.gathers.as_ref()) {
            // No leader departs meanwhile.
            return if send() { Joined::Follows(company.subscribe()) } else { Joined::Alone };
        }
        let its = companies.entry(consumer.to_owned()).or_default();
        its.gathers = Some(watch::Sender::default());
        let (consumer, before) = (Some(consumer.to_owned()), its.departed.clone());
        Joined::Leads(Leader { acks: self.clone(), consumer, connects, before })
    }

    fn companies(&self) -> MutexGuard<'_, BTreeMap<String, Companies>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader {
    /// Waits for those who may join.
    async fn gather(&mut self) {
        // What else ended at this moment comes before this goes on.
        yield_now().await;
        if let Some(mut before) = self.before.take() {
            // Where its leader went away there is nothing to wait for.
            let _ = timeout(WHILE, before.wait_for(Option::is_some)).await;
        }
    }

    /// What is to be told to the company, which nobody joins any more.
    fn departs(mut self) -> watch::Sender<Outcome> {
        self.taken().unwrap_or_default()
    }

    fn taken(&mut self) -> Option<watch::Sender<Outcome>> {
        let mut companies = self.acks.companies();
        let its = companies.get_mut(&self.consumer.take()?)?;
        let company = its.gathers.take()?;
        its.departed = Some(company.subscribe());
        Some(company)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.taken());
    }
}

impl JetStream {
    /// Says that a delivery is settled, and waits for the confirmation. `sent` is called when it is said.
    pub(super) async fn settled(&self, reply: &str, sent: &(dyn Fn() + Sync)) -> Result<(), BrokerError> {
        // In boxes: they would stand in the future of each call that waits for its acknowledgement.
        let mut outcome = match self.join(reply)? {
            Joined::Follows(outcome) => outcome,
            Joined::Leads(leader) => return Box::pin(self.lead(leader, reply, sent)).await,
            Joined::Alone => return Box::pin(self.confirmed(reply, DONE)).await,
        };
        sent();
        let told = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        told.unwrap_or_else(|| Err(unknown()))
    }

    fn join(&self, reply: &str) -> Result<Joined, BrokerError> {
        let Some(consumer) = consumer_of(reply) else { return Ok(Joined::Alone) };
        let client = self.connected()?;
        let connects = client.statistics().connects.load(Ordering::Relaxed);
        let send = || client.publish(reply.to_owned(), DONE).now_or_never().is_some_and(|sent| sent.is_ok());
        Ok(self.connection.acks.join(consumer, connects, send))
    }

    /// Leads a company.
    async fn lead(
        &self,
        mut leader: Leader,
        reply: &str,
        sent: &(dyn Fn() + Sync),
    ) -> Result<(), BrokerError> {
        leader.gather().await;
        let connects = leader.connects;
        let company = leader.departs();
        sent();
        let confirmed = self.confirmed(reply, DONE).await;
        let same = self.connection.client.borrow().statistics().connects.load(Ordering::Relaxed) == connects;
        company.send_replace(Some(if same { confirmed.clone() } else { Err(unknown()) }));
        confirmed
    }

    /// Says something about a delivery, and waits for the confirmation.
    pub(super) async fn confirmed(&self, reply: &str, said: Bytes) -> Result<(), BrokerError> {
        match self.request(reply, HeaderMap::new(), said).await {
            Ok(_) => Ok(()),
            Err(Unanswered::NoResponders) => Err(BrokerError::Unavailable("the consumer is gone".to_owned())),
            Err(Unanswered::Other(error)) => Err(error),
        }
    }
}

fn unknown() -> BrokerError {
    BrokerError::Unavailable("the connection broke meanwhile".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn leads(joined: Joined) -> Leader {
        let Joined::Leads(leader) = joined else { panic!("another one leads") };
        leader
    }

    fn follows(joined: Joined) -> watch::Receiver<Outcome> {
        let Joined::Follows(outcome) = joined else { panic!("it leads") };
        outcome
    }

    #[tokio::test]
    async fn those_who_come_while_the_first_one_waits_are_told_what_it_is_told() {
        let acks = Acks::default();
        let leader = leads(acks.join("a", 1, || false));
        let mut told = follows(acks.join("a", 1, || true));
        leads(acks.join("b", 1, || false));
        let company = leader.departs();
        let _next = leads(acks.join("a", 1, || false));
        follows(acks.join("a", 1, || true));
        company.send_replace(Some(Ok(())));
        assert_eq!(told.wait_for(Option::is_some).await.unwrap().clone(), Some(Ok(())));
    }

    #[test]
    fn whoever_cannot_be_sent_before_the_leader_is_not_told_what_became_of_its() {
        let acks = Acks::default();
        let _leader = leads(acks.join("a", 1, || false));
        assert!(matches!(acks.join("a", 1, || false), Joined::Alone));
    }

    #[tokio::test]
    async fn those_whose_leader_goes_away_learn_that_nothing_is_known() {
        let acks = Acks::default();
        let leader = leads(acks.join("a", 1, || false));
        let mut told = follows(acks.join("a", 1, || true));
        drop(leader);
        assert!(told.wait_for(Option::is_some).await.is_err());
        leads(acks.join("a", 1, || false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_company_gathers_until_the_one_before_it_was_told_or_a_while() {
        let acks = Acks::default();
        let company = leads(acks.join("a", 1, || false)).departs();
        let mut next = leads(acks.join("a", 1, || false));
        let mut gather = Box::pin(next.gather());
        assert!((&mut gather).now_or_never().is_none());
        follows(acks.join("a", 1, || true));
        company.send_replace(Some(Ok(())));
        gather.await;
        let told = Instant::now();
        drop(next);
        let mut last = leads(acks.join("a", 1, || false));
        last.gather().await;
        assert_eq!(told.elapsed(), Duration::ZERO, "the leader of the one before it went away");
        let company = last.departs();
        let mut alone = leads(acks.join("a", 1, || false));
        alone.gather().await;
        assert!(told.elapsed() >= WHILE);
        drop(company);
    }
}
