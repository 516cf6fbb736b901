//! The consumers of the timer *levels*, as the broker knows them.
//!
//! Until NATS 2.14: without this timer retries could not wait on older servers. Newer ones use it on request,
//! and for a stream of retries that cannot have schedules.

pub mod room;

use std::time::Duration;

use crate::{
    broker::jetstream::{ApiError, Consumers, JetStream, Settings},
    message::{names::Names, timer::HIGHEST},
};

/// How soon a message is brought again after its promoter died. Nothing runs under this lease but a publish.
pub const ACK_WAIT: Duration = Duration::from_secs(5);
/// A level's consumer as the broker knows it.
#[derive(Debug, Clone)]
pub struct Level {
    /// Which level.
    pub k: u32,
    /// Messages in it that are not settled.
    pub held: u64,
    /// All up to here are settled.
    pub floor: u64,
    /// The consumer's settings; absent where the broker knows only its name just now.
    pub settings: Option<Settings>,
}

/// The levels that have a consumer.
///
/// # Errors
/// Where the broker does not answer.
pub async fn list(jetstream: &JetStream, names: &Names) -> Result<Vec<Level>, ApiError> {
    Ok(levels(jetstream.consumers(&names.retries).await?))
}

/// The levels that have none.
pub fn absent(found: &[Level]) -> impl Iterator<Item = u32> {
    (0..=HIGHEST).filter(|k| found.iter().all(|level| level.k != *k))
}

/// The levels in a list of the consumers of the stream of retries.
pub(crate) fn levels(list: Consumers) -> Vec<Level> {
    let told = list.consumers.into_iter().filter_map(|info| {
        let (k, held) = (Names::level_of(&info.name)?, info.unsettled());
        let settings = Some(info.config).filter(|settings| !settings.is_none());
        Some(Level { k, held, floor: info.ack_floor.stream_seq, settings })
    });
    // Those whose own server did not answer in time.
    let silent = list.missing.iter().filter_map(|name| Names::level_of(name));
    told.chain(silent.map(|k| Level { k, held: 0, floor: 0, settings: None })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_levels_are_told_from_other_consumers_and_what_waits_in_them_is_counted() {
        let answer = json!({
            "consumers": [
                { "name": "due", "num_pending": 9, "num_ack_pending": 9 },
                { "name": "l0", "num_pending": 2, "num_ack_pending": 3, "config": { "ack_wait": 1 } },
                { "name": "l16", "num_pending": 0, "num_ack_pending": 0 },
                { "name": "l01", "num_pending": 1 }, { "name": "late", "num_pending": 1 }, { "name": "" },
            ],
            "missing": ["l7", "due"],
        });
        let found: Vec<_> = levels(serde_json::from_value(answer).unwrap())
            .into_iter()
            .map(|level| (level.k, level.held, level.settings.is_some()))
            .collect();
        assert_eq!(found, [(0, 5, true), (16, 0, false), (7, 0, false)]);
    }
}
