//! The room of a level: how many of its messages may be handed back at once. A message that is handed back
//! keeps its place in the consumer until it is due, and once all places are taken nobody reads what comes
//! behind, however soon it is due. So a level that fills gets more places before they are all taken. Not
//! from the start: each message that a consumer holds costs the broker memory and time, and most levels
//! never hold many.

use super::Level;
use crate::{
    broker::{
        jetstream::{ApiError, JetStream, Settings},
        streams::limits,
    },
    message::names::Names,
};

/// The places of a level that has filled. More than this many would cost the broker more than somebody's
/// lateness.
pub const MOST: u64 = 1_000_000;

/// How many places a level needs that has `room` of them (`None`: no bound) and holds so many messages, read
/// or not; `None` where it has enough.
pub fn wanted(room: Option<u64>, held: u64) -> Option<u64> {
    room.filter(|room| *room < MOST && held > room / 2).map(|_| MOST)
}

/// The places of a level's consumer; `None` where it has no bound, or where nobody says.
fn room(settings: &Settings) -> Option<u64> {
    settings.limit("max_ack_pending")
}

/// Whether more messages lie in the level than it has places for.
pub(crate) fn is_crowded(level: &Level) -> bool {
    level.settings.as_ref().and_then(room).is_some_and(|room| level.held > room)
}

/// Gives a level that fills more places, as many as the account grants.
///
/// # Errors
/// Where the broker does not answer, or grants no more.
pub async fn make(jetstream: &JetStream, names: &Names, level: &Level) -> Result<(), ApiError> {
    let Some(settings) = &level.settings else { return Ok(()) };
    let found = room(settings);
    let Some(most) = wanted(found, level.held) else { return Ok(()) };
    let (stream, consumer) = (&names.retries, Names::level_consumer(level.k));
    let mut wanted = settings.clone();
    wanted.set("max_ack_pending", most);
    if let Err(refused) = jetstream.put_consumer(stream, &consumer, &wanted).await {
        wanted = limits::granted(&refused, &wanted).filter(|granted| room(granted) > found).ok_or(refused)?;
        jetstream.put_consumer(stream, &consumer, &wanted).await?;
    }
    tracing::info!(
        stream,
        consumer,
        held = level.held,
        from = found,
        to = room(&wanted),
        "raised a full level's max_ack_pending"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_level_gets_more_places_before_all_are_taken() {
        for (room, held, expected) in [
            (Some(10_000), 0, None),
            (Some(10_000), 5_000, None),
            (Some(10_000), 5_001, Some(MOST)),
            (Some(10_000), u64::MAX, Some(MOST)),
            (Some(1), 1, Some(MOST)),
            (Some(MOST), u64::MAX, None),
            (Some(2 * MOST), u64::MAX, None),
            (None, u64::MAX, None),
        ] {
            assert_eq!(wanted(room, held), expected, "{room:?} {held}");
        }
    }

    #[test]
    fn a_level_is_crowded_when_it_holds_more_than_its_consumer_may() {
        for (settings, held, expected) in [
            (json!({ "max_ack_pending": 10 }), 10, false),
            (json!({ "max_ack_pending": 10 }), 11, true),
            (json!({ "max_ack_pending": -1 }), 11, false),
            (json!({}), 11, false),
        ] {
            assert_eq!(
                is_crowded(&Level { k: 3, held, floor: 0, settings: Some(settings.clone().into()) }),
                expected,
                "{settings} {held}"
            );
        }
        assert!(!is_crowded(&Level { k: 3, held: 11, floor: 0, settings: None }));
    }
}
