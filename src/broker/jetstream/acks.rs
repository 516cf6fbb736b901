//! Acknowledgements of finished calls, sent in company.
//!
//! The broker confirms an acknowledgement that asks for it, and a confirmation costs it and the worker about
//! as much as the acknowledgement. But a consumer takes those of one connection in their order: one that is
//! confirmed confirms those before it. So the calls that end while a confirmation is on its way send theirs
//! together when it has come, and only the last one asks.
//!
//! ```text
//!  the first to come leads ──▶ the others join ──▶ all theirs ──▶ its own, confirmed ──▶ all are told
//!                              │                                                      │
//!                              └── until the company before it was told, or a while ◀─┘
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
    /// The one that gathers.
    gathers: Option<Company>,
    /// What becomes of the one that departed last.
    departed: Option<watch::Receiver<Outcome>>,
}

#[derive(Debug, Default)]
struct Company {
    replies: Vec<String>,
    outcome: watch::Sender<Outcome>,
}

/// The place in a company.
#[derive(Debug)]
enum Joined {
    Leads(Leader),
    Follows(watch::Receiver<Outcome>),
}

/// Whoever came first. Goes it away, the others learn that nothing was sent.
#[derive(Debug)]
struct Leader {
    acks: Acks,
    /// The consumer of its company, until it departs.
    consumer: Option<String>,
    before: Option<watch::Receiver<Outcome>>,
}

impl Acks {
    fn join(&self, consumer: &str, reply: &str) -> Joined {
        let mut companies = self.companies();
        if let Some(company) = companies.get_mut(consumer).and_then(|its| its.gathers.as_mut()) {
            company.replies.push(reply.to_owned());
            return Joined::Follows(company.outcome.subscribe());
        }
        let its = companies.entry(consumer.to_owned()).or_default();
        its.gathers = Some(Company::default());
        let (consumer, before) = (Some(consumer.to_owned()), its.departed.clone());
        Joined::Leads(Leader { acks: self.clone(), consumer, before })
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

    /// The company, which nobody joins any more.
    fn departs(mut self) -> Company {
        self.taken().unwrap_or_default()
    }

    fn taken(&mut self) -> Option<Company> {
        let mut companies = self.acks.companies();
        let its = companies.get_mut(&self.consumer.take()?)?;
        let company = its.gathers.take()?;
        its.departed = Some(company.outcome.subscribe());
        Some(company)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.taken());
    }
}

impl JetStream {
    /// Says that a delivery is settled, and waits for the confirmation.
    pub(super) async fn settled(&self, reply: &str) -> Result<(), BrokerError> {
        let Some(consumer) = consumer_of(reply) else {
            return Box::pin(self.confirmed(reply, DONE)).await;
        };
        match self.acks.join(consumer, reply) {
            Joined::Follows(mut outcome) => {
                let outcome =
                    outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
                outcome.unwrap_or_else(|| Err(unknown()))
            }
            // In a box: it would stand in the future of each call that waits for its acknowledgement.
            Joined::Leads(leader) => Box::pin(self.lead(leader, reply)).await,
        }
    }

    async fn lead(&self, mut leader: Leader, reply: &str) -> Result<(), BrokerError> {
        leader.gather().await;
        let Company { replies, outcome } = leader.departs();
        let answer = self.together(replies, reply).await;
        outcome.send_replace(Some(answer.clone()));
        answer
    }

    async fn together(&self, others: Vec<String>, last: &str) -> Result<(), BrokerError> {
        if others.is_empty() {
            return self.confirmed(last, DONE).await;
        }
        let client = self.connected()?;
        let connections = client.statistics();
        let before = connections.connects.load(Ordering::Relaxed);
        for other in others {
            let sent = client.publish(other, DONE).await;
            sent.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        }
        self.confirmed(last, DONE).await?;
        if connections.connects.load(Ordering::Relaxed) == before { Ok(()) } else { Err(unknown()) }
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
    use futures_util::FutureExt;
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
        let leader = leads(acks.join("a", "1"));
        let mut told = follows(acks.join("a", "2"));
        leads(acks.join("b", "3"));
        let company = leader.departs();
        assert_eq!(company.replies, ["2"]);
        let _next = leads(acks.join("a", "4"));
        follows(acks.join("a", "5"));
        company.outcome.send_replace(Some(Ok(())));
        assert_eq!(told.wait_for(Option::is_some).await.unwrap().clone(), Some(Ok(())));
    }

    #[tokio::test]
    async fn those_whose_leader_goes_away_learn_that_nothing_is_known() {
        let acks = Acks::default();
        let leader = leads(acks.join("a", "1"));
        let mut told = follows(acks.join("a", "2"));
        drop(leader);
        assert!(told.wait_for(Option::is_some).await.is_err());
        leads(acks.join("a", "3"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_company_gathers_until_the_one_before_it_was_told_or_a_while() {
        let acks = Acks::default();
        let company = leads(acks.join("a", "1")).departs();
        let mut next = leads(acks.join("a", "2"));
        let mut gather = Box::pin(next.gather());
        assert!((&mut gather).now_or_never().is_none());
        follows(acks.join("a", "3"));
        company.outcome.send_replace(Some(Ok(())));
        gather.await;
        let told = Instant::now();
        assert_eq!(next.departs().replies, ["3"]);
        let mut last = leads(acks.join("a", "4"));
        last.gather().await;
        assert_eq!(told.elapsed(), Duration::ZERO, "the leader of the one before it went away");
        let company = last.departs();
        let mut alone = leads(acks.join("a", "5"));
        alone.gather().await;
        assert!(told.elapsed() >= WHILE);
        drop(company);
    }
}
