//! Looks for what follows from a message that comes again: where that is stored, only the acknowledgement was
//! lost, or the callback is owed.

use async_nats::HeaderMap;

use super::Settle;
use crate::{
    broker::seam::Broker,
    message::{
        envelope::Envelope,
        header,
        names::{self, Names},
    },
    retry::judge::Cause,
    worker::delivery::{Delivery, lease::LeaseLost},
};

/// A message that followed from another: some worker settled that one, or began to. Only a look at what is
/// stored makes one.
#[derive(Debug)]
pub struct Successor {
    letter: Option<u64>,
}

impl Successor {
    /// The sequence of the dead letter, where the successor is that of the message itself.
    pub fn letter(&self) -> Option<u64> {
        self.letter
    }
}

impl<B: Broker> Settle<B> {
    /// The successor of a delivery that may have been settled before, if it has one.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn settled(&self, delivery: &Delivery<B>) -> Result<Option<Successor>, LeaseLost> {
        if delivery.delivered() == 1 {
            let since = delivery.envelope().id.stored_at();
            let newest = self.ask(delivery, || self.newest.of(&self.broker, &self.names, self.dead_letters));
            if !newest.await?.may_have_followed(since, self.broker.now()) {
                return Ok(None);
            }
        }
        self.successor(delivery).await
    }

    /// The successor of a delivery that is stored, or was lately.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn successor(&self, delivery: &Delivery<B>) -> Result<Option<Successor>, LeaseLost> {
        let message = &delivery.message;
        let envelope = &message.envelope;
        let clones = self.names.clones(message.token(), envelope.id);
        let last = self.ask(delivery, || self.broker.last(&self.names.retries, &clones)).await?;
        let generation = last.as_deref().and_then(Names::generation_of);
        if generation.is_some_and(|generation| Names::is_successor(generation, envelope.generation)) {
            return Ok(Some(Successor { letter: None }));
        }
        // One that was parked, came due and was settled since left only its id, for as long as the broker
        // remembers it.
        let id = message.successor_id();
        let (retries, probe) = (&self.names.retries, self.names.retries_probe());
        let taken = self.taken(delivery, retries, &probe, std::slice::from_ref(&id)).await?;
        if taken.iter().any(Option::is_some) {
            return Ok(Some(Successor { letter: None }));
        }
        if !self.dead_letters {
            return Ok(None);
        }
        // A dead letter that was written by hand has the id that a clone would have had; and the callback of
        // a success may be all that died.
        let mut ids = vec![message.dead_letter_id(), id];
        ids.extend(message.has_callback.then(|| message.callback().dead_letter_id()));
        let taken = self.taken(delivery, &self.names.dead, &self.names.dead_probe(), &ids).await?;
        let letter = taken.first().copied().flatten();
        Ok(taken.iter().any(Option::is_some).then_some(Successor { letter }))
    }

    async fn taken(
        &self,
        delivery: &Delivery<B>,
        stream: &str,
        probe: &str,
        ids: &[String],
    ) -> Result<Vec<Option<u64>>, LeaseLost> {
        self.ask(delivery, || self.broker.taken_as(stream, probe, ids)).await
    }

    /// What a dead letter tells of an invocation's past; where it is gone, what the delivery does.
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn dead_letter(
        &self,
        delivery: &Delivery<B>,
        sequence: u64,
    ) -> Result<(Envelope, Option<Cause>), LeaseLost> {
        let past = &delivery.message.envelope;
        let headers = self.ask(delivery, || self.broker.headers(&self.names.dead, sequence)).await?;
        let cause =
            |headers: &HeaderMap| header::said(headers, names::CAUSE).and_then(|cause| cause.parse().ok());
        Ok(headers.map_or_else(|| (past.clone(), None), |headers| (past.as_told(&headers), cause(&headers))))
    }
}
