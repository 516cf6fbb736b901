//! The seam to the broker, carried out by JetStream.

use std::time::SystemTime;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::try_join_all;

use super::{
    JetStream, SILENCE,
    call::{Nak, nanoseconds, written},
    code,
    published::{Taken, unasked},
};
use crate::{
    broker::seam::{Ack, Broker, BrokerError},
    message::{
        header::put,
        names::{EXPECTED_LAST, EXPECTED_LAST_ID, EXPECTED_LAST_OF_ALL, MESSAGE_ID},
        record::Record,
    },
};

/// No message has this id: a publish that expects it to be the last one is refused, if it gets so far.
const NO_SUCH_ID: &str = "queue-worker-probe";

impl Broker for JetStream {
    async fn publish(&self, record: &Record) -> Result<(), BrokerError> {
        let _parking = match &self.reserve {
            Some(reserve) => reserve.admit(self, record).await?,
            None => None,
        };
        self.deposit(record).await.map(|_new| ())
    }

    async fn place(&self, record: &Record) -> Result<(), BrokerError> {
        let mut headers = record.headers.clone();
        put(&mut headers, MESSAGE_ID, &record.id);
        put(&mut headers, EXPECTED_LAST, "0");
        match self.store(&record.stream, &record.subject, headers, record.payload.clone()).await? {
            Taken::New(_) | Taken::Duplicate(_) | Taken::Unmet(code::WRONG_LAST_SEQUENCE) => Ok(()),
            Taken::Unmet(code) => Err(unasked(code)),
        }
    }

    async fn acknowledge(
        &self,
        reply: &str,
        ack: Ack,
        confirmed: bool,
        sent: &(dyn Fn() + Sync),
    ) -> Result<(), BrokerError> {
        let answer = match ack {
            Ack::Done => self.settled(reply, sent).await,
            Ack::InProgress => Box::pin(self.confirmed(reply, Bytes::from_static(b"+WPI"))).await,
            Ack::Later(wait) => {
                let nak = Nak { delay: nanoseconds(wait).min(u64::MAX / 2) };
                let said = [b"-NAK ".as_slice(), &written(&nak)].concat().into();
                Box::pin(self.confirmed(reply, said)).await
            }
        };
        match answer {
            // It was sent; whether it arrived is not insisted on.
            Err(BrokerError::Unavailable(reason)) if !confirmed && reason == SILENCE => Ok(()),
            answer => answer,
        }
    }

    async fn last(&self, stream: &str, filter: &str) -> Result<Option<String>, BrokerError> {
        Ok(self.last_stored(stream, filter).await?.map(|stored| stored.subject))
    }

    /// Asks with a publish that cannot succeed: the broker looks at the id first (a duplicate is confirmed)
    /// and only then at a precondition that never holds, so that nothing is stored either way, and no id
    /// noted. Where it looks at which is read off nats-server's sources, 2.9.10 to 2.15.2
    /// (`processJetStreamMsg` and what its successors are called):
    ///
    /// * a stream without replicas checks the last message's id after the new one, in all versions; its last
    ///   sequence before it, since 2.12;
    /// * one with replicas checks the last sequence between looking the id up and noting it, since 2.12.
    ///   Before, it notes the id first: the question itself would turn what is stored later into a duplicate.
    ///   There nobody is asked, and what is known is what lies in the stream. Who leads the stream says its
    ///   API level (2 is 2.12) in the answer.
    async fn taken_as(
        &self,
        stream: &str,
        subject: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, BrokerError> {
        let mut headers = HeaderMap::new();
        // Asked anew each time: an operator may have given the stream replicas since the start.
        let found = self.stream(stream).await?.config;
        if found.replicas() > 1 {
            // Until NATS 2.12: nobody can be asked.
            if found.api_level().is_none_or(|level| level < 2) {
                return Ok(vec![None; ids.len()]);
            }
            put(&mut headers, EXPECTED_LAST_OF_ALL, &i64::MAX.to_string());
        } else {
            put(&mut headers, EXPECTED_LAST_ID, NO_SUCH_ID);
        }
        let asked = ids.iter().map(|id| {
            let mut headers = headers.clone();
            put(&mut headers, MESSAGE_ID, id);
            self.store(stream, subject, headers, Bytes::new())
        });
        // An id that is not known is refused, for the precondition's sake.
        let known = |taken| if let Taken::Duplicate(sequence) = taken { Some(sequence) } else { None };
        Ok(try_join_all(asked).await?.into_iter().map(known).collect())
    }

    async fn newest(&self, stream: &str) -> Result<Option<SystemTime>, BrokerError> {
        let state = self.stream(stream).await?.state;
        Ok((state.last_seq > 0).then(|| state.last_ts.unwrap_or_else(|| self.now())))
    }

    async fn headers(&self, stream: &str, sequence: u64) -> Result<Option<HeaderMap>, BrokerError> {
        Ok(self.stored(stream, sequence).await?.map(|stored| stored.headers()))
    }

    fn now(&self) -> SystemTime {
        self.connection.clock.now()
    }

    fn now_at_least(&self) -> SystemTime {
        self.connection.clock.now_at_least()
    }

    fn max_payload(&self) -> usize {
        self.connection.client.borrow().max_payload()
    }
}
