//! Settings of other OpenFaaS workers that mean nothing here. Charts render them and people bring them along, so they are
//! taken without complaint, and each that is set gets one line at start that says what became of it.

use super::table::key;

const RECONNECTS: &str = "the broker is reconnected to for as long as it takes";
const SHARED: &str = "one consumer serves all functions of the queue";
const BODIES: &str = "bodies are never logged";
const GATEWAY: &str = "functions are always called through the gateway, which asks for no login there";

/// Names, and why nothing comes of them.
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
    ("max_waiting", "a consumer asks for no more than there are free permits"),
    ("consumer_pull_max_messages", "a consumer asks for no more than there are free permits"),
    ("scaling_mode", SHARED),
    ("inactive_threshold", SHARED),
    ("consumer_inactive_threshold", SHARED),
    ("queue_partitions", SHARED),
    ("filter_partition", SHARED),
    ("adaptive_concurrency", "max_inflight is the one limit of calls at once"),
    ("limiter_enabled", "max_inflight is the one limit of calls at once"),
];

/// Why a setting of another worker is ignored, if this is the name of one in any spelling.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    let wanted = key(name);
    FOREIGN.iter().find(|(name, _)| key(name) == wanted).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::{super::table, *};

    #[test]
    fn no_foreign_name_is_one_of_ours() {
        for (name, _) in FOREIGN {
            assert!(table::find(name).is_none(), "{name}");
        }
    }
}
