//! The promoter of one level: it asks for what lies there, brings what is due to the due ones, and hands back
//! the rest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        pulled::Pulled,
        seam::{Ack, Ask, Broker, BrokerError, Source},
    },
    message::{
        arrival::Arrival,
        names::Names,
        record::Record,
        timer::{promoted, remaining},
    },
    tasks::error_backoff::ErrorBackoff,
};

/// The most messages and bytes that one promoter has in its hands.
const HANDFUL: (usize, usize) = (128, 16 << 20);
/// A level that holds more than this many is crowded.
const CROWD: u64 = 10_000;
/// The broker looks through all that a consumer holds to find what is due, and breaks off when an
/// acknowledgement comes. In a crowded level that takes it long. So a promoter that finds nothing more there
/// is silent for a while.
const REST: Duration = Duration::from_millis(100);
/// The pause after a request that failed, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A message that the broker did not take is brought again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// One that it never will is looked at this seldom.
const SELDOM: Duration = Duration::from_secs(60);
/// No message is handed back for longer, however long it has to wait: the wait is as good as what this worker
/// knows of the broker's clock, and somebody may set that right. Half of the time for which the broker
/// remembers the id of what was brought to the due ones.
const LONGEST: Duration = Duration::from_secs(300);
/// A message that is handed back to be looked at again costs the broker about as much as a retry. In a level
/// that holds many it is handed back for longer: one after the other, so far apart.
const APART: Duration = Duration::from_millis(30);

/// Moves what comes due in one level.
#[derive(Debug)]
pub struct Promoter<B, S> {
    /// The broker.
    pub broker: B,
    /// The queue's names.
    pub names: Names,
    /// The level's consumer.
    pub source: S,
    /// How many messages the level held when it was last looked at.
    pub held: Arc<AtomicU64>,
    /// Ends the moving.
    pub stop: CancellationToken,
}

impl<B: Broker, S: Source> Promoter<B, S> {
    /// Moves until told to stop, and then what was delivered all the same.
    pub async fn run(mut self) {
        let mut pause = ErrorBackoff::new(BACKOFF);
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            match self.round().await {
                Ok(()) => pause.reset(),
                Err(error) => {
                    tracing::debug!(%error, "moving again");
                    let _ = stop.run_until_cancelled(pause.rest()).await;
                }
            }
        }
        let left = self.source.close().await;
        let (broker, names, held) = (&self.broker, &self.names, &self.held);
        left.into_iter()
            .map(|pulled| promote(broker, names, held, pulled))
            .collect::<FuturesUnordered<_>>()
            .collect::<Vec<()>>()
            .await;
    }

    /// One request and what comes of it.
    async fn round(&mut self) -> Result<(), BrokerError> {
        let Self { broker, names, source, held, stop } = self;
        let most = handful(broker.max_payload());
        let crowded = held.load(Ordering::Relaxed) > CROWD;
        let ask = if crowded { Ask::UpTo(most) } else { Ask::AsTheyCome(most) };
        let Some(asked) = stop.run_until_cancelled(source.ask(ask)).await else { return Ok(()) };
        let asked = asked?;
        let mut arrived = 0;
        let mut hands = FuturesUnordered::new();
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                Some(()) = hands.next() => {}
                next = source.next() => match next {
                    Ok(Some(pulled)) => {
                        arrived += 1;
                        hands.push(promote(broker, names, held, pulled));
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
            }
        };
        hands.collect::<Vec<()>>().await;
        if crowded && arrived < asked {
            let _ = stop.run_until_cancelled(sleep(REST)).await;
        }
        ended
    }
}

/// How many messages of any size may be in one promoter's hands.
fn handful(max_payload: usize) -> usize {
    let (messages, bytes) = HANDFUL;
    (bytes / max_payload.max(1)).clamp(1, messages)
}

/// Brings a message to the due ones if its time has come, and hands it back until then if not.
async fn promote<B: Broker>(broker: &B, names: &Names, held: &AtomicU64, pulled: Pulled) {
    let Pulled { arrival, delivered, reply, .. } = pulled;
    let wait = remaining(&arrival.headers, broker.now_at_least());
    let ack = if wait.is_zero() {
        moved(broker, names, &arrival).await
    } else {
        let known = if delivered > 1 { was_moved(broker, names, &arrival).await } else { Some(false) };
        match known {
            Some(true) => Ack::Done,
            Some(false) => Ack::Later(wait.min(longest(held.load(Ordering::Relaxed)))),
            None => Ack::Later(wait.min(LONGEST)),
        }
    };
    // Where this is lost the message comes again after `ACK_WAIT`, and is then a duplicate or handed back
    // again.
    if let Err(error) = broker.acknowledge(&reply, ack, true, &|| ()).await {
        tracing::debug!(subject = arrival.subject, %error, "what was said about a parked retry is not \
            confirmed");
    }
}

/// The record to be published when a message is due.
fn due(names: &Names, arrival: &Arrival) -> Option<Record> {
    promoted(names, &arrival.subject, arrival.sequence, &arrival.headers, arrival.payload.clone())
}

/// Whether a message that has to wait was due before, and moved, by the broker's clock before somebody set it
/// back: brought again when the broker has forgotten its id, it would be called again. `None` where nobody
/// knows: the next look is soon enough.
async fn was_moved<B: Broker>(broker: &B, names: &Names, arrival: &Arrival) -> Option<bool> {
    let Some(record) = due(names, arrival) else { return Some(false) };
    let taken = broker.taken_as(&record.stream, &names.retries_probe(), &[record.id]).await.ok()?;
    Some(taken.iter().any(Option::is_some))
}

/// How long a message may be handed back in a level that holds so many.
fn longest(held: u64) -> Duration {
    LONGEST.max(APART.saturating_mul(u32::try_from(held).unwrap_or(u32::MAX)))
}

/// Publishes what is due; returns what is to be said about the parked message.
async fn moved<B: Broker>(broker: &B, names: &Names, arrival: &Arrival) -> Ack {
    let Some(record) = due(names, arrival) else { return Ack::Later(SELDOM) };
    match broker.place(&record).await {
        Ok(()) => Ack::Done,
        Err(BrokerError::TooLarge) => {
            tracing::error!(
                subject = arrival.subject,
                "Unstorable: a parked retry has become too large for the broker; it stays where it is"
            );
            Ack::Later(SELDOM)
        }
        Err(error) => {
            tracing::debug!(subject = arrival.subject, %error, "a due retry could not be moved; trying \
                again");
            Ack::Later(AGAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_a_level_holds_the_longer_its_messages_are_handed_back() {
        for (held, seconds) in [(0, 300), (10_000, 300), (20_000, 600), (1_000_000, 30_000)] {
            assert_eq!(longest(held), Duration::from_secs(seconds), "{held}");
        }
    }

    #[test]
    fn what_a_promoter_holds_is_bounded_in_messages_and_in_bytes() {
        for (max_payload, expected) in [(0, 128), (65_536, 128), (1 << 20, 16), (8 << 20, 2), (64 << 20, 1)] {
            assert_eq!(handful(max_payload), expected, "{max_payload}");
        }
    }
}
