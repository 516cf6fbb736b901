//! What the limits of an account ask of the settings. Hosted accounts want a size for each stream, and grant
//! a consumer fewer unacknowledged deliveries than are asked for. Pure: a refusal goes in, what to set comes
//! out.

use super::rules::least_pending;
use crate::{
    broker::jetstream::{ApiError, Settings, code},
    config::Config,
    message::{names::Names, timer::HIGHEST},
};

/// A stream that is made with a size where one is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sized {
    /// Its name.
    pub stream: String,
    /// The setting of its size.
    pub setting: &'static str,
    /// The size in bytes; 0 is none.
    pub bytes: u64,
}

/// The streams of a queue that these settings ask for, in the order in which they are made.
pub(crate) fn streams(config: &Config, names: &Names) -> Vec<Sized> {
    let sized = |stream: &str, setting, bytes| Sized { stream: stream.to_owned(), setting, bytes };
    let mut streams = vec![
        sized(&names.stream, "nats_stream_max_bytes", config.nats.stream_max_bytes),
        sized(&names.retries, "retries_max_bytes", config.retries_max_bytes),
    ];
    let letters = &config.dead_letters;
    streams.extend(letters.enabled.then(|| sized(&names.dead, "dead_letter_max_bytes", letters.max_bytes)));
    streams
}

/// What to set where the account did not grant a stream or a consumer of `stream`; nothing where the refusal
/// is about something else.
pub(crate) fn hint(error: &ApiError, stream: &str, config: &Config, names: &Names) -> Option<String> {
    let ApiError::Refused { code, .. } = error else { return None };
    let all = streams(config, names);
    let own = all.iter().find(|sized| sized.stream == stream);
    let replicas = config.nats.stream_replicas;
    Some(match *code {
        code::SIZE_REQUIRED => size_required(&all, own),
        code::SIZE_TOO_LARGE => {
            let (setting, bytes) = own.map_or(("max_bytes", 0), |own| (own.setting, own.bytes));
            format!(
                "this account grants a stream less than {setting}={bytes}: set a smaller one; queue-worker \
                    doctor shows what it grants"
            )
        }
        code if code::NO_ROOM.contains(&code) => format!(
            "there is no room for it: NATS sets aside {}, times nats_stream_replicas={replicas}; set smaller \
                sizes, or have the account's storage \
             raised",
            all.iter()
                .map(|Sized { setting, bytes, .. }| format!("{setting}={bytes}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        code::STREAMS => {
            format!(
                "each queue has {} streams: have the account's limit of streams raised, or serve fewer \
                    queues",
                all.len()
            )
        }
        code::CONSUMERS => format!(
            "each queue has 2 consumers, and {} with levels: have the limit of consumers raised, or serve \
                fewer queues",
            HIGHEST + 3
        ),
        code if code::REPLICAS.contains(&code) => {
            format!(
                "nats_stream_replicas={replicas} is more than there are servers for, or than this account \
                    grants: set a smaller number"
            )
        }
        _ => return None,
    })
}

/// All sizes that are missing are named at once. Where none is, the stream was there before, without a size.
fn size_required(all: &[Sized], own: Option<&Sized>) -> String {
    let missing: Vec<_> =
        all.iter().filter(|sized| sized.bytes == 0).map(|sized| format!("{}=1GiB", sized.setting)).collect();
    match own.filter(|own| own.bytes > 0) {
        Some(own) => format!(
            "this account wants a size for each stream, and {0} was made without one: nats stream edit {0} \
                --max-bytes={1}",
            own.stream, own.bytes
        ),
        None => format!(
            "this account wants a size for each stream: set {}, or other sizes; what was made already is \
                used then",
            missing.join(" and ")
        ),
    }
}

/// The same consumer with as much room as the account grants, where its room is what was refused. A broker
/// that names no number is left to choose it.
pub fn granted(error: &ApiError, wanted: &Settings) -> Option<Settings> {
    let ApiError::Refused { code: code::ACK_PENDING, description } = error else { return None };
    let granted = description.split_whitespace().next_back().and_then(|word| word.parse::<u64>().ok());
    let mut smaller = wanted.clone();
    match granted {
        Some(room) => smaller.set("max_ack_pending", room),
        None => smaller.unset("max_ack_pending"),
    }
    Some(smaller)
}

/// Whether what would be granted is less than what the consumer has.
pub(crate) fn lowers(error: &ApiError, wanted: &Settings, found: &Settings) -> bool {
    let room = |settings: &Settings| settings.number("max_ack_pending");
    granted(error, wanted).is_some_and(|smaller| room(&smaller) < room(found))
}

/// The consequence where a consumer has less room than workers of this size need.
pub fn crowded(consumer: &Settings, config: &Config) -> Option<String> {
    let room = consumer.limit("max_ack_pending")?;
    let least = least_pending(config.max_inflight);
    (room < least).then(|| {
        format!(
            "consumer {} may have {room} unacknowledged deliveries (max_ack_pending), and 4 × \
                max_inflight={} are {least}: one worker can take \
             all of its room; set max_inflight to {} or have the account's max_ack_pending raised",
            consumer.text("durable_name"),
            config.max_inflight,
            (room / 4).max(1)
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config;

    fn config(set: &[(&str, &str)]) -> Config {
        config::load([], set.iter().map(|(name, value)| ((*name).into(), (*value).into()))).unwrap().config
    }

    fn refused(code: u64, description: &str) -> ApiError {
        ApiError::Refused { code, description: description.to_owned() }
    }

    /// The hint at this refusal has these words; there is none where there are no words.
    fn check(set: &[(&str, &str)], code: u64, stream: &str, words: &[&str]) {
        let (config, names) = (config(set), Names::new("q", "q"));
        let said = hint(&refused(code, "no"), stream, &config, &names);
        assert_eq!(said.is_none(), words.is_empty(), "{said:?}");
        for word in words {
            assert!(said.as_ref().is_some_and(|said| said.contains(word)), "{code}: {said:?} has no {word}");
        }
    }

    #[test]
    fn what_an_account_does_not_grant_is_told_with_the_setting() {
        check(
            &[],
            10113,
            "q",
            &["nats_stream_max_bytes=1GiB and retries_max_bytes=1GiB and dead_letter_max_bytes=1GiB"],
        );
        check(
            &[("nats_stream_max_bytes", "1"), ("dead_letters", "false")],
            10113,
            "q-retries",
            &["set retries_max_bytes=1GiB,"],
        );
        check(&[("nats_stream_max_bytes", "7")], 10113, "q", &["nats stream edit q --max-bytes=7"]);
        check(&[("retries_max_bytes", "5MB")], 10122, "q-retries", &["retries_max_bytes=5000000"]);
        check(
            &[("retries_max_bytes", "5")],
            10047,
            "q-dead",
            &["retries_max_bytes=5", "nats_stream_replicas=1"],
        );
        check(&[("dead_letters", "false")], 10027, "q", &["2 streams"]);
        check(&[], 10026, "q-retries", &["2 consumers, and 19 with levels"]);
        check(&[("nats_stream_replicas", "3")], 10074, "q", &["nats_stream_replicas=3"]);
        check(&[], 10058, "q", &[]);
    }

    #[test]
    fn a_consumer_takes_the_room_that_is_granted() {
        let wanted = json!({ "durable_name": "d", "max_ack_pending": 10_000, "ack_wait": 1 }).into();
        for (description, expected) in [
            (
                "consumer max ack pending exceeds system limit of 1000",
                json!({ "durable_name": "d", "max_ack_pending": 1000, "ack_wait": 1 }),
            ),
            ("too much", json!({ "durable_name": "d", "ack_wait": 1 })),
        ] {
            assert_eq!(
                granted(&refused(10121, description), &wanted),
                Some(expected.into()),
                "{description}"
            );
        }
        assert_eq!(granted(&refused(10122, "limit of 7"), &wanted), None);
        for (found, lower) in [(999, false), (1_000, false), (1_001, true)] {
            let error = refused(10121, "consumer max ack pending exceeds system limit of 1000");
            assert_eq!(
                lowers(&error, &wanted, &json!({ "max_ack_pending": found }).into()),
                lower,
                "{found}"
            );
        }
    }

    #[test]
    fn less_room_than_workers_need_is_told_with_what_would_do() {
        let consumer = |room: i64| json!({ "durable_name": "d", "max_ack_pending": room }).into();
        for (room, crowds) in [(-1, false), (0, false), (1_000, false), (999, true)] {
            assert_eq!(
                crowded(&consumer(room), &config(&[("max_inflight", "250")])).is_some(),
                crowds,
                "{room}"
            );
        }
        let said = crowded(&consumer(1_000), &config(&[("max_inflight", "500")])).unwrap();
        assert!(
            said.contains("max_inflight=500")
                && said.contains("1000")
                && said.contains("set max_inflight to 250"),
            "{said}"
        );
    }
}
