//! What is rendered for other OpenFaaS workers.

use std::path::Path;

use super::*;

/// The main chart of OpenFaaS Pro renders these, `backoff` empty among them.
const CHART: &[&str] = &[
    "nats_host=nats.openfaas.svc.cluster.local",
    "nats_stream=faas-request",
    "nats_durable=faas-workers",
    "default_function_name=openfaas-fn",
    "max_inflight=50",
    "scaling_mode=static",
    "consumer_inactive_threshold=30s",
    "gateway_url=http://gateway.openfaas.svc.cluster.local:8080",
    "tls_insecure=false",
    "debug=false",
    "log_encoding=console",
    "nats_stream_replicas=1",
    "ack_wait=60s",
    "limiter_enabled=true",
    "upstream_timeout=1m",
    "max_retry_attempts=100",
    "max_retry_wait=120s",
    "initial_retry_wait=10s",
    "retry_http_codes=408,429,500,502,503,504",
    "backoff=",
    "PATH=/usr/bin",
    "NATS_PORT=tcp://10.0.0.1:4222",
    "GATEWAY_PORT=tcp://10.0.0.2:8080",
    "QUEUE_WORKER_PPROF_PORT=tcp://10.0.0.3:6060",
    "-license-file=/var/secrets/license/license",
    "-pprof=true",
];

#[test]
fn what_the_chart_renders_is_understood() {
    let Loaded { config, notes, .. } = load_words(CHART).unwrap();
    assert_eq!(config.nats.servers, ["nats://nats.openfaas.svc.cluster.local:4222"]);
    assert_eq!(
        (config.queues[0].name.as_str(), config.queues[0].stream.as_str()),
        ("faas-request", "faas-request")
    );
    assert_eq!(config.gateway_url.as_str(), "http://gateway.openfaas.svc.cluster.local:8080/");
    assert_eq!((config.retry.max_attempts, config.retry.backoff.jitter), (100, Jitter::None));
    let ignored: Vec<_> =
        notes.iter().filter_map(|note| note.split_once(' ')).map(|(name, _)| name).collect();
    assert_eq!(ignored, ["consumer_inactive_threshold", "limiter_enabled", "scaling_mode"]);
}

#[test]
fn what_the_chart_of_a_queue_renders_is_understood() {
    let more = ["queue_name=", "queue_partitions=1", "filter_partition=0", "nats_port=4222"];
    let mut words: Vec<_> = CHART.iter().copied().filter(|word| !word.starts_with("nats_stream=")).collect();
    words.extend(more);
    words.push("nats_stream=custom-request");
    let Loaded { config, notes, .. } = load_words(&words).unwrap();
    assert_eq!(
        (config.queues[0].name.as_str(), config.queues[0].stream.as_str()),
        ("custom-request", "custom-request")
    );
    assert_eq!(notes.len(), 5);
}

#[test]
fn what_the_community_edition_is_given_is_understood() {
    let Loaded { config, notes, .. } = load_words(&[
        "faas_nats_address=nats.openfaas.svc.cluster.local",
        "faas_nats_port=4222",
        "faas_nats_cluster_name=faas-cluster",
        "faas_nats_queue_group=faas",
        "faas_nats_channel=faas-request",
        "faas_gateway_address=gateway.openfaas.svc.cluster.local",
        "faas_gateway_port=8080",
        "faas_print_body=false",
        "write_debug=false",
        "faas_max_reconnect=120",
        "faas_reconnect_delay=2s",
        "faas_function_suffix=.openfaas-fn.svc.cluster.local",
        "gateway_invoke=true",
        "basic_auth=true",
        "secret_mount_path=/var/secrets/gateway",
        "max_inflight=1",
        "ack_wait=5m5s",
    ])
    .unwrap();
    assert_eq!(config.nats.servers, ["nats://nats.openfaas.svc.cluster.local:4222"]);
    assert_eq!(config.gateway_url.as_str(), "http://gateway.openfaas.svc.cluster.local:8080/");
    assert_eq!((config.max_inflight, config.ack_wait.as_secs()), (1, 305));
    assert_eq!(config.stan_cluster.as_deref(), Some("faas-cluster"));
    let lookup = config.function_lookup.unwrap();
    assert_eq!(lookup.secrets.as_deref(), Some(Path::new("/var/secrets/gateway")));
    assert_eq!(notes.len(), 7);
}

#[test]
fn the_bridge_is_there_when_it_or_its_cluster_is_asked_for() {
    for (words, expected) in [
        (&[] as &[&str], None),
        (&["faas_nats_cluster_name="], None),
        (&["faas_nats_cluster_name=test"], Some("test")),
        (&["stan_bridge=true"], Some("faas-cluster")),
        (&["--stan-bridge"], Some("faas-cluster")),
        (&["stan_bridge=true", "faas_nats_cluster_name="], Some("faas-cluster")),
        (&["stan_bridge=false", "faas_nats_cluster_name=test"], None),
    ] {
        assert_eq!(load_words(words).unwrap().config.stan_cluster.as_deref(), expected, "{words:?}");
    }
}

fn check_doubts(words: &[&str], expected: &[&str]) {
    let doubts: Vec<_> = load_words(words).unwrap().doubts.iter().map(|doubt| doubt.setting).collect();
    assert_eq!(doubts, expected, "{words:?}");
}

#[test]
fn a_target_of_a_queue_that_has_no_use_for_one_is_doubted() {
    let check = |urls: &str, more: &[&str], expected: &[&str]| {
        let words = ["queue_name=faas-request,orders", "input=openfaas,http", urls];
        check_doubts(&[&words, more].concat(), expected);
    };
    check("target_url=,http://shop/", &["target_method=POST,PUT"], &[]);
    // One for all is for those that have a use for it.
    check("target_url=http://shop/", &["target_headers=A: 1"], &[]);
    check("target_url=http://a/,http://shop/", &[], &["target_url"]);
    check("target_url=,http://shop/", &["target_headers=A: 1\n,\nA: 2"], &["target_headers"]);
}

#[test]
fn who_brings_the_community_edition_s_address_and_no_bridge_is_asked_whether_that_is_meant() {
    let check = check_doubts;
    let address = "faas_nats_address=nats";
    check(&[address], &["faas_nats_address"]);
    check(&["--faas-nats-address=nats", "faas_nats_port=4222"], &["faas_nats_address"]);
    check(&[address, "faas_nats_cluster_name=faas-cluster"], &[]);
    check(&[address, "stan_bridge=true"], &[]);
    check(&[address, "stan_bridge=false"], &[]);
    check(&["faas_nats_address="], &[]);
    check(&["nats_host=nats"], &[]);
    let line = load_words(&[address]).unwrap().doubts.remove(0).to_string();
    assert!(line.contains("NATS Streaming is not served") && line.contains("stan_bridge=true"), "{line}");
}

#[test]
fn the_bridge_publishes_on_the_names_of_queues() {
    let words = ["stan_bridge=true", "nats_filter_subject=faas-request.*"];
    check_fault(
        &words,
        "nats_filter_subject=faas-request.*: expected a filter that faas-request matches, which is what the \
            bridge publishes on",
    );
    assert!(
        load_words(&["stan_bridge=true", "nats_filter_subject=faas-request,>", "queue_name=faas-request,b"])
            .is_ok()
    );
}

#[test]
fn functions_are_looked_up_where_the_gateway_sends_no_annotations() {
    let check = |words: &[&str], expected: Option<Option<&str>>| {
        let lookup = load_words(words).unwrap().config.function_lookup;
        let secrets = lookup.as_ref().map(|lookup| lookup.secrets.as_deref());
        assert_eq!(secrets, expected.map(|folder| folder.map(Path::new)), "{words:?}");
    };
    check(&[], None);
    check(&["basic_auth=false", "secret_mount_path=/s"], None);
    check(&["basic_auth=true"], Some(Some("/run/secrets")));
    check(&["basic_auth=1", "secret_mount_path=/s"], Some(Some("/s")));
    check(&["faas_nats_cluster_name=faas-cluster"], Some(None));
    check(&["stan_bridge=true"], Some(None));
    check(&["function_lookup=true"], Some(None));
    check(&["function_lookup=false", "basic_auth=true", "faas_nats_cluster_name=c"], None);
}

#[test]
fn every_setting_of_another_worker_is_ignored_with_one_line_if_it_is_set() {
    for name in "max_reconnect reconnect_delay faas_max_reconnect faas_reconnect_delay faas_queue_group \
        faas_print_body \
        write_debug print_request_body print_response_body gateway_invoke faas_function_suffix \
        max_waiting scaling_mode inactive_threshold consumer_inactive_threshold \
        consumer_pull_max_messages limiter_enabled queue_partitions filter_partition"
        .split_whitespace()
    {
        let upper = name.to_uppercase();
        let notes = load_words(&[&format!("{upper}=any thing")]).unwrap().notes;
        assert!(matches!(notes.as_slice(), [note] if note.starts_with(&upper)), "{notes:?}");
        assert!(load_words(&[&format!("{name}=")]).unwrap().notes.is_empty(), "{name}");
    }
}
