//! What a broker's streams hold, and what their consumers know about it.

use async_nats::jetstream::{Context, consumer, stream};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::{QUEUE, RETRIES};
use crate::support::stored::Stored;

/// How many messages a stream holds; 0 when there is no such stream. An old server that was killed, or had to
/// replicate a stream that was not replicated before, keeps acknowledged messages for ever: there its
/// consumers know better.
pub async fn count(js: &Context, stream: &str, schedules: bool) -> u64 {
    match js.get_stream(stream).await {
        Ok(found) if schedules => found.cached_info().state.messages,
        Ok(_) => unsettled(js, stream).await.unwrap_or_else(|| panic!("{stream} does not say what it holds")),
        Err(_) => 0,
    }
}

/// How many messages of a stream its consumers have not settled, parked ones included; all where there is
/// nothing to settle. `None` where the broker does not say.
pub async fn unsettled(js: &Context, stream: &str) -> Option<u64> {
    let found = js.get_stream(stream).await.ok()?;
    let info = found.cached_info();
    if info.state.messages == 0
        || info.config.retention != stream::RetentionPolicy::WorkQueue
        || info.state.consumer_count == 0
    {
        return Some(info.state.messages);
    }
    let consumers: Vec<_> = found.consumers().collect().await;
    let consumers: Vec<_> = consumers.into_iter().collect::<Result<_, _>>().ok()?;
    let unsettled =
        consumers.iter().map(|consumer| consumer.num_pending + consumer.num_ack_pending as u64).sum::<u64>();
    // No consumer reads the holders of schedules. The client's own listing of subjects panics where the
    // broker goes away.
    let filter = json!({ "subjects_filter": format!("{stream}.at.>") });
    let info: Value = js.request(format!("STREAM.INFO.{stream}"), &filter).await.ok()?;
    let holders = info.pointer("/state/subjects").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    Some(unsettled + holders as u64)
}

/// The messages of a stream from this sequence on, oldest first.
pub async fn messages(js: &Context, stream: &str, mut next: u64) -> Vec<Stored> {
    let stream = js.get_stream_no_info(stream).await.unwrap();
    let mut messages = Vec::new();
    while let Ok(message) = stream.get_first_raw_message_by_subject(">", next).await {
        next = message.sequence + 1;
        messages.push(message.into());
    }
    messages
}

/// What the queue and its retries hold and what their consumers know about it.
pub async fn books(js: &Context) -> String {
    let mut lines = Vec::new();
    for name in [QUEUE, RETRIES] {
        let Ok(stream) = js.get_stream(name).await else { continue };
        lines.push(format!("{name}: {:?}", stream.cached_info().state));
        let mut consumers = stream.consumers();
        while let Some(Ok(info)) = consumers.next().await {
            let (delivered, floor) = (info.delivered.stream_sequence, info.ack_floor.stream_sequence);
            let consumer::Info { num_ack_pending, num_redelivered, num_waiting, num_pending, .. } = info;
            lines.push(format!(
                "  {}: delivered {delivered}, ack floor {floor}, unacknowledged {num_ack_pending}, \
                    redelivered {num_redelivered}, \
                 pending {num_pending}, requests {num_waiting}",
                info.name
            ));
        }
        for message in messages(js, name, 1).await {
            let Stored { sequence, subject, time, .. } = &message;
            let time = humantime::format_rfc3339_millis(*time);
            lines.push(format!(
                "  {sequence} {subject}, stored {time}, due {:?}",
                message.header("Queue-Worker-Due")
            ));
        }
    }
    lines.join("\n")
}
