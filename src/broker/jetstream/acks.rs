//! Acknowledgements of finished calls, sent in company.
//!
//! The broker confirms an acknowledgement that asks for it, and a confirmation costs it and the worker about
//! as much as the acknowledgement. But a consumer takes those of one connection in their order: one that is
//! confirmed confirms those before it. So the calls that end at the same moment send theirs together, and
//! only the last one asks.
//!
//! ```text
//!  the first to come leads ──▶ the others join ──▶ all theirs ──▶ its own, confirmed ──▶ all are told
//! ```
//!
//! If the connection was made anew meanwhile, some may be lost, and nobody knows which: nothing is confirmed,
//! and each is sent again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::{sync::watch, task::yield_now};

use super::{JetStream, Unanswered};
use crate::broker::{ack_subject::consumer_of, seam::BrokerError};

/// What says that a delivery is settled.
const DONE: Bytes = Bytes::from_static(b"+ACK");

/// What became of those that were sent together; none as long as it is open.
type Outcome = Option<Result<(), BrokerError>>;

/// The companies that gather, one a consumer. Cheap to clone; the clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Acks(Arc<Mutex<BTreeMap<String, Company>>>);

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
}

impl Acks {
    fn join(&self, consumer: &str, reply: &str) -> Joined {
        let mut companies = self.companies();
        if let Some(company) = companies.get_mut(consumer) {
            company.replies.push(reply.to_owned());
            return Joined::Follows(company.outcome.subscribe());
        }
        companies.insert(consumer.to_owned(), Company::default());
        Joined::Leads(Leader { acks: self.clone(), consumer: Some(consumer.to_owned()) })
    }

    fn companies(&self) -> MutexGuard<'_, BTreeMap<String, Company>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader {
    /// The company, which nobody joins any more.
    fn departs(mut self) -> Company {
        self.taken().unwrap_or_default()
    }

    fn taken(&mut self) -> Option<Company> {
        self.acks.companies().remove(&self.consumer.take()?)
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
            Joined::Leads(leader) => {
                // What else ended at this moment comes before this goes on.
                yield_now().await;
                let Company { replies, outcome } = leader.departs();
                // In a box: it would stand in the future of each call that waits for its acknowledgement.
                let answer = Box::pin(self.together(replies, reply)).await;
                outcome.send_replace(Some(answer.clone()));
                answer
            }
        }
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
    use super::*;

    #[tokio::test]
    async fn those_who_come_while_the_first_one_waits_are_told_what_it_is_told() {
        let acks = Acks::default();
        let Joined::Leads(leader) = acks.join("a", "1") else { panic!("it is the first") };
        let Joined::Follows(mut told) = acks.join("a", "2") else { panic!("another one leads") };
        assert!(matches!(acks.join("b", "3"), Joined::Leads(_)), "another consumer's go apart");
        let company = leader.departs();
        assert_eq!(company.replies, ["2"]);
        let Joined::Leads(_next) = acks.join("a", "4") else { panic!("it came too late") };
        let Joined::Follows(_) = acks.join("a", "5") else { panic!("the next one leads") };
        company.outcome.send_replace(Some(Ok(())));
        assert_eq!(told.wait_for(Option::is_some).await.unwrap().clone(), Some(Ok(())));
    }

    #[tokio::test]
    async fn those_whose_leader_goes_away_learn_that_nothing_is_known() {
        let acks = Acks::default();
        let Joined::Leads(leader) = acks.join("a", "1") else { panic!("it is the first") };
        let Joined::Follows(mut told) = acks.join("a", "2") else { panic!("another one leads") };
        drop(leader);
        assert!(told.wait_for(Option::is_some).await.is_err());
        assert!(matches!(acks.join("a", "3"), Joined::Leads(_)));
    }
}
