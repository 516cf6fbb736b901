//! PhantomAcks: messages whose acknowledgement a consumer awaits although its stream has them no more. NATS
//! before 2.11 makes some when it is killed, for it notes up to a tenth of a second later what a consumer
//! knows than what the stream knows: an acknowledgement can be forgotten while the deletion that came of it
//! is not. It drops those that lie before the stream's first message; any older message that is parked keeps
//! the others. Whenever `ack_wait` is over a ghost is to be delivered again and is not found, and the server
//! then waits for the next request or message instead of looking further (`getNextMsg` and
//! `loopAndGatherMsgs` in its consumer.go, 2.9.10 to 2.10.0; 2.11.0 goes on). A few of them hold up what is
//! behind them, for good where little happens.
//!
//! An acknowledgement lays a ghost. Nobody tells which messages are some, but what was deleted never comes
//! back while a server runs, so all that could be one are acknowledged: where there is no ghost, that changes
//! nothing.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::{
    broker::{
        consumer::Bound,
        jetstream::{ApiError, JetStream, number},
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
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Runs until dropped: looks once at each server that is connected to, for one that starts again is another
/// by its id.
pub async fn run(jetstream: &JetStream, names: &Names, fresh: &Bound) {
    let mut link = jetstream.link();
    let mut seen = String::new();
    let (mut made, mut pause) = (0, ErrorBackoff::new(PAUSE));
    loop {
        let Ok(now) = link.wait_for(|link| link.up && link.made > made).await.map(|link| link.made) else {
            return std::future::pending().await;
        };
        made = now;
        let server = jetstream.client().server_info();
        if server.server_id == seen || version(&server.version) >= HARMLESS {
            continue;
        }
        match lay_all(jetstream, names, fresh).await {
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

async fn lay_all(jetstream: &JetStream, names: &Names, fresh: &Bound) -> Result<(), ApiError> {
    let consumer = jetstream.consumer(&fresh.stream, &fresh.consumer).await?;
    lay(jetstream, &fresh.stream, std::slice::from_ref(&consumer)).await?;
    let list = jetstream.consumers(&names.retries).await?;
    let consumers = list.get("consumers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    lay(jetstream, &names.retries, consumers).await
}

/// Lays the phantom acknowledgements of a stream's consumers.
async fn lay(jetstream: &JetStream, stream: &str, consumers: &[Value]) -> Result<(), ApiError> {
    let waiting: Vec<_> = consumers.iter().filter(|info| number(info, "/num_ack_pending") > 0).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let gaps = number(&jetstream.stream(stream).await?, "/state/num_deleted");
    if gaps > MOST {
        tracing::warn!(
            stream,
            gaps,
            "this old server's stream has too many gaps to look for acknowledgements that it forgot; retries \
                may be late"
        );
        return Ok(());
    }
    let detailed =
        jetstream.api(&format!("STREAM.INFO.{stream}"), &json!({ "deleted_details": true })).await?;
    for consumer in waiting {
        let acks = stream::iter(suspects(stream, consumer, &detailed));
        let acks = acks.map(|reply| async move { jetstream.acknowledge(&reply, Ack::Done, true).await });
        acks.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    Ok(())
}

/// Where the acknowledgements go of all that was deleted while the consumer may have awaited them. A delivery
/// of number 0 moves no ack floor.
fn suspects(stream: &str, consumer: &Value, detailed: &Value) -> Vec<String> {
    let name = consumer.get("name").and_then(Value::as_str).unwrap_or_default();
    let (floor, last) =
        (number(consumer, "/ack_floor/stream_seq"), number(consumer, "/delivered/stream_seq"));
    let deleted = detailed.pointer("/state/deleted").and_then(Value::as_array).into_iter().flatten();
    let suspects =
        deleted.filter_map(Value::as_u64).filter(|sequence| *sequence > floor && *sequence <= last);
    suspects.map(|sequence| format!("$JS.ACK.{stream}.{name}.1.{sequence}.0.0.0")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_between_the_ack_floor_and_the_last_delivery_may_be_a_ghost() {
        let detailed = json!({ "state": { "deleted": [3, 4, 6, 9, 10] } });
        let consumer =
            json!({ "name": "l0", "ack_floor": { "stream_seq": 3 }, "delivered": { "stream_seq": 9 } });
        let expected = [4, 6, 9].map(|sequence| format!("$JS.ACK.s.l0.1.{sequence}.0.0.0"));
        assert_eq!(suspects("s", &consumer, &detailed), expected);
        assert!(suspects("s", &consumer, &json!({ "state": {} })).is_empty());
        // As 2.9.10 has it once it could not read its notes.
        let consumer = json!({ "name": "l0", "ack_floor": { "stream_seq": u64::MAX }, "delivered": { "stream_seq": u64::MAX } });
        assert!(suspects("s", &consumer, &detailed).is_empty());
    }
}
