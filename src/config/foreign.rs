//! Variables that mean nothing here. Each gets one line at the start, which says that it is ignored. They are
//! settings of other OpenFaaS workers, which charts render and people bring along, and variables of other
//! programs that happen to have a setting's name.

use super::table::{Setting, key};

const RECONNECTS: &str = "the broker is reconnected to for as long as it takes";
const SHARED: &str = "one consumer serves all functions of the queue";
const BODIES: &str = "bodies are never logged";
const GATEWAY: &str = "functions are always called through the gateway, which asks for no login there";
const PULL: &str = "a consumer asks for what it has permits for, or will have within 2 ms";

/// Their names, and why they are ignored.
const FOREIGN: &[(&str, &str)] = &[
    ("max_reconnect", RECONNECTS),
    ("reconnect_delay", RECONNECTS),
    ("faas_max_reconnect", RECONNECTS),
    ("faas_reconnect_delay", RECONNECTS),
    ("faas_queue_group", "the durable consumer is what workers share"),
    ("faas_nats_queue_group", "the durable consumer is what workers share"),
    ("faas_print_body", BODIES),
    ("write_debug", BODIES),
    ("print_request_body", BODIES),
    ("print_response_body", BODIES),
    ("gateway_invoke", GATEWAY),
    ("faas_function_suffix", GATEWAY),
    ("max_waiting", PULL),
    ("consumer_pull_max_messages", PULL),
    ("scaling_mode", SHARED),
    ("inactive_threshold", SHARED),
    ("consumer_inactive_threshold", SHARED),
    ("queue_partitions", SHARED),
    ("filter_partition", SHARED),
    ("adaptive_concurrency", "max_inflight is the one limit of calls at once"),
    ("limiter_enabled", "max_inflight is the one limit of calls at once"),
];

/// Settings whose name is one common word, which other programs use, too; and the values that they know.
const COMMON: &[(&str, &[&str])] = &[
    ("debug", &["true", "false", "1", "0"]),
    ("audit", &["off", "failures", "all"]),
    ("backoff", &["exponential", "full", "equal"]),
    ("input", &["openfaas", "http", "cloudevents"]),
];

/// Why a variable is taken for another program's, such as `DEBUG=*`: its name is one common word in capitals,
/// as the environment has them, and its value is none that the setting knows. In small letters, or as a flag,
/// it is meant for this program.
pub(super) fn stranger(name: &str, setting: &Setting, value: Option<&str>) -> Option<String> {
    let (_, known) = COMMON.iter().find(|(word, _)| *word == setting.name)?;
    let fits = value.is_some_and(|value| known.iter().any(|word| word.eq_ignore_ascii_case(value)));
    let capitals = name.chars().all(|c| c.is_ascii_uppercase());
    (capitals && !fits).then(|| {
        let (word, known) = (setting.name, known.join(" or "));
        format!(
            "{name} is taken for another program's variable and is ignored: the setting {word} is \
            {known}; {word} or --{word} sets it"
        )
    })
}

/// Why a setting of another worker is ignored, if this is the name of one in any spelling.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    let wanted = key(name);
    FOREIGN.iter().find(|(name, _)| key(name) == wanted).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{Loaded, Refusal, load, table},
        *,
    };

    #[test]
    fn no_foreign_name_is_one_of_ours() {
        for (name, _) in FOREIGN {
            assert!(table::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_setting_of_one_word_is_known_with_all_that_it_may_be() {
        let words: BTreeSet<_> =
            table::SETTINGS.iter().flat_map(table::names).filter(|name| !name.contains('_')).collect();
        assert_eq!(COMMON.iter().map(|(word, _)| *word).collect::<BTreeSet<_>>(), words);
        for (word, value) in
            COMMON.iter().flat_map(|(word, values)| values.iter().map(move |value| (word, value)))
        {
            match load([], [((*word).into(), value.into())]) {
                Ok(Loaded { notes, .. }) => assert!(notes.is_empty(), "{notes:?}"),
                Err(Refusal::Invalid(faults)) => {
                    let known = ["not built yet", "target_url"];
                    assert!(known.iter().any(|known| faults[0].contains(known)), "{faults:?}");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_common_word_in_capitals_with_an_unknown_value_is_another_program_s() {
        let check = |name: &str, value: Option<&str>, expected: bool| {
            let found = stranger(name, table::find(name).unwrap(), value);
            assert_eq!(found.is_some(), expected, "{name}={value:?}");
        };
        for value in ["*", "express:*", "release", "2"] {
            check("DEBUG", Some(value), true);
            check("debug", Some(value), false);
            check("Debug", Some(value), false);
        }
        for value in ["true", "FALSE", "1", "0"] {
            check("DEBUG", Some(value), false);
        }
        check("DEBUG", None, true);
        check("BACKOFF", Some("5s"), true);
        check("BACKOFF", Some("Full"), false);
        check("AUDIT", Some("/var/log/audit"), true);
        check("AUDIT", Some("all"), false);
        check("MAX_INFLIGHT", Some("abc"), false);
        check("LISTEN_ADDR", Some("*"), false);
    }
}
