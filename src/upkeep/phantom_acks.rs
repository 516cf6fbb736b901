//! Until NATS 2.11: phantom acknowledgements. A consumer awaits an acknowledgement, and its stream does not
//! have the message any more. An older server makes some when it is killed, for it notes up to a tenth of a
//! second later what a consumer knows than what the stream knows: an acknowledgement can be forgotten while
//! the deletion that came of it is not. It drops those that lie before the stream's first message; any
//! older message that is parked keeps the others. Whenever `ack_wait` is over such a message is to be
//! delivered again and is not found, and the server then waits for the next request or message instead of
//! looking further (`getNextMsg` and `loopAndGatherMsgs` in its consumer.go, 2.9.10 to 2.10.0; 2.11.0 goes
//! on). A few of them hold up what is behind them, for good where little happens.
//!
//! An acknowledgement removes a phantom. Nobody tells which messages are phantoms, but a deleted message
//! never comes back while a server runs. So all deleted messages that could be one are acknowledged: where
//! there is no phantom, that changes nothing.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    broker::{
        consumer::Bound,
        jetstream::{
            ApiError, ConsumerInfo, JetStream,
            call::{self, Details},
        },
        seam::{Ack, Broker},
        version::{Version, version},
    },
    message::names::Names,
    tasks::error_backoff::ErrorBackoff,
};

/// From this version on phantom acknowledgements are passed over.
const HARMLESS: Version = (2, 11, 0);
/// Where more than this was deleted between a stream's first message and its last, the phantom
/// acknowledgements stay: the broker lists all gaps or none.
const MOST: u64 = 100_000;
/// How many acknowledgements are on their way at a time.
const AT_ONCE: usize = 64;
/// The pause after a question that got no answer, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Runs until dropped: looks once at each server that is connected to, for one that starts again is another
/// by its id.
pub(crate) async fn run(jetstream: &JetStream, names: &Names, fresh: &Bound) {
    let mut link = jetstream.link();
    let mut seen = String::new();
    let (mut made, mut pause) = (0, ErrorBackoff::new(BACKOFF));
    loop {
        let Ok(now) = link.wait_for(|link| link.up && link.made > made).await.map(|link| link.made) else {
            return std::future::pending().await;
        };
        made = now;
        let server = jetstream.client().server_info();
        if server.server_id == seen || version(&server.version) >= HARMLESS {
            continue;
        }
        match free_all(jetstream, names, fresh).await {
            Ok(()) => {
                seen = server.server_id;
                pause.reset();
            }
            Err(error) => {
                tracing::debug!(%error, "what the broker forgot is not looked for; trying again");
                made = 0;
                pause.rest().await;
            }
        }
    }
}

async fn free_all(jetstream: &JetStream, names: &Names, fresh: &Bound) -> Result<(), ApiError> {
    let consumer = jetstream.consumer(&fresh.stream, &fresh.consumer).await?;
    free(jetstream, &fresh.stream, std::slice::from_ref(&consumer)).await?;
    let list = jetstream.consumers(&names.retries).await?;
    free(jetstream, &names.retries, &list.consumers).await
}

/// Frees of phantom acknowledgements a stream's consumers.
async fn free(jetstream: &JetStream, stream: &str, consumers: &[ConsumerInfo]) -> Result<(), ApiError> {
    let waiting: Vec<_> = consumers.iter().filter(|info| info.num_ack_pending > 0).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let gaps = jetstream.stream(stream).await?.state.num_deleted;
    if gaps > MOST {
        tracing::warn!(
            stream,
            gaps,
            "this old server's stream has too many gaps to look for acknowledgements that it forgot; retries \
                may be late"
        );
        return Ok(());
    }
    let details = Details { deleted_details: Some(true), ..Details::default() };
    let deleted = jetstream.stream_with(stream, &details).await?.state.deleted;
    for consumer in waiting {
        let acks = stream::iter(suspects(stream, consumer, &deleted));
        let acks =
            acks.map(|reply| async move { jetstream.acknowledge(&reply, Ack::Done, true, &|| ()).await });
        acks.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    Ok(())
}

/// Where the acknowledgements go of all that was deleted while the consumer may have awaited them. A delivery
/// of number 0 moves no ack floor.
fn suspects(stream: &str, consumer: &ConsumerInfo, deleted: &[u64]) -> Vec<String> {
    let (floor, last) = (consumer.ack_floor.stream_seq, consumer.delivered.stream_seq);
    let awaited = deleted.iter().filter(|sequence| **sequence > floor && **sequence <= last);
    awaited.map(|sequence| call::acknowledgement(stream, &consumer.name, *sequence, 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::jetstream::Position;

    #[test]
    fn what_is_gone_between_the_ack_floor_and_the_last_delivery_may_be_a_phantom() {
        let consumer = |floor, last| ConsumerInfo {
            name: "l0".to_owned(),
            ack_floor: Position { stream_seq: floor, ..Position::default() },
            delivered: Position { stream_seq: last, ..Position::default() },
            ..ConsumerInfo::default()
        };
        let deleted = [3, 4, 6, 9, 10];
        let expected = [4, 6, 9].map(|sequence| format!("$JS.ACK.s.l0.1.{sequence}.0.0.0"));
        assert_eq!(suspects("s", &consumer(3, 9), &deleted), expected);
        assert!(suspects("s", &consumer(3, 9), &[]).is_empty());
        // As 2.9.10 has it once it could not read its notes.
        assert!(suspects("s", &consumer(u64::MAX, u64::MAX), &deleted).is_empty());
    }
}
