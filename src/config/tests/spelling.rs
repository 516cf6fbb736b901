//! One setting, however it is spelt: in the environment, as a flag, twice.

use super::*;

#[test]
fn every_spelling_is_the_same_setting() {
    check_same(
        |config| config.retry.max_attempts,
        7,
        &[
            &["max_retry_attempts=7"],
            &["MAX_RETRY_ATTEMPTS=7"],
            &["maxRetryAttempts=7"],
            &["Max_RetryAttempts= 7\n"],
            &["--max-retry-attempts=7"],
            &["--max_retry_attempts=7"],
            &["-max-retry-attempts=7"],
            &["-max_retry_attempts=7"],
            &["--maxRetryAttempts=7"],
            &["max_retry_attempts=7", "MAX_RETRY_ATTEMPTS=7"],
        ],
    );
    check_same(
        |config| config.queues[0].name.clone(),
        "jobs".to_owned(),
        &[
            &["queue_name=jobs"],
            &["NATS_CHANNEL=jobs"],
            &["faas_nats_channel=jobs"],
            &["--faas-nats-channel=jobs"],
        ],
    );
    check_same(
        |config| config.function_namespace,
        "fn".to_owned(),
        &[&["function_namespace=fn"], &["default_function_name=fn"], &["-default_function_name=fn"]],
    );
    check_same(
        |config| config.retry.codes,
        "503".parse().unwrap(),
        &[
            &["http_retry_codes=503"],
            &["retry_http_codes=503"],
            &["httpRetryCodes=503"],
            &["--retry-http-codes=503"],
        ],
    );
}

#[test]
fn flags_take_their_value_as_people_type_it() {
    let args = |words: &[&str]| load(words.iter().map(OsString::from), []).unwrap().config;
    assert_eq!(args(&["--max-inflight", "7"]).max_inflight, 7);
    assert_eq!(args(&["-max-inflight", "7", "--debug"]).max_inflight, 7);
    assert!(args(&["--debug", "--max-inflight=3"]).log.debug);
    assert!(!args(&["--debug", "false"]).log.debug);
    assert!(!args(&["--debug", "--debug=0"]).log.debug);
    let go = ["-license-file=/var/secrets/license/license", "-pprof=true", "-nats-token-file=/t"];
    assert_eq!(args(&go).nats.login, Login::Token("/t".into()));
    let apart = [
        "-license-file",
        "/var/secrets/license/license",
        "--pprof",
        "--license_file=x",
        "--max-inflight",
        "2",
    ];
    assert_eq!(args(&apart).max_inflight, 2);
}

#[test]
fn the_flag_wins_over_the_environment_and_an_empty_value_is_none() {
    assert_eq!(config(&["--max-inflight=7", "max_inflight=8"]).max_inflight, 7);
    assert_eq!(config(&["--max-inflight=7", "max_inflight=many"]).max_inflight, 7);
    assert_eq!(config(&["--nats-channel=a", "queue_name=b"]).queues[0].name, "a");
    assert_eq!(config(&["--max-inflight=", "max_inflight=8"]).max_inflight, 8);
    assert_eq!(config(&["max_inflight=", "MAX_INFLIGHT=8", "maxInflight=  "]).max_inflight, 8);
}

#[test]
fn spellings_that_disagree_are_both_named() {
    check_fault(
        &["max_inflight=5", "MAX_INFLIGHT=6"],
        "MAX_INFLIGHT=6 and max_inflight=5: both are max_inflight, expected one value",
    );
    check_fault(
        &["nats_channel=a", "queue_name=b"],
        "nats_channel=a and queue_name=b: both are queue_name, expected one value",
    );
    check_fault(
        &["natsUrl=nats://u:secret@a", "nats_url=nats://b"],
        "natsUrl=nats://***@a and nats_url=nats://b: both are nats_url, expected one value",
    );
}

#[test]
fn the_links_that_kubernetes_makes_are_no_ports() {
    let links = [
        "NATS_PORT=tcp://10.0.0.1:4222",
        "NATS_PORT_4222_TCP=tcp://10.0.0.1:4222",
        "NATS_SERVICE_HOST=10.0.0.1",
    ];
    assert_eq!(config(&links).nats.servers, ["nats://127.0.0.1:4222"]);
    assert_eq!(config(&[links[0], "nats_port=4223", "nats_host=n"]).nats.servers, ["nats://n:4223"]);
    assert_eq!(
        config(&["FAAS_GATEWAY_PORT=tcp://10.0.0.1:8080"]).gateway_url.as_str(),
        "http://127.0.0.1:8080/"
    );
    check_fault(
        &["--nats-port=tcp://10.0.0.1:4222"],
        "--nats-port=tcp://10.0.0.1:4222: expected a whole number from 1 to 65535",
    );
}

#[test]
fn what_other_programs_call_by_a_setting_s_name_is_ignored_with_a_line() {
    let Loaded { config, notes, .. } =
        load_words(&["DEBUG=*", "BACKOFF=5s", "AUDIT=/var/log/audit.log"]).unwrap();
    assert!(!config.log.debug);
    assert_eq!(config.retry.backoff.jitter, Jitter::None);
    let named: Vec<_> = notes
        .iter()
        .filter_map(|note| note.split_once(" is taken for another program's "))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(named, ["AUDIT", "BACKOFF", "DEBUG"]);
    // It disagrees with nothing.
    assert!(config_of_debug(&["DEBUG=express:*", "debug=true"]) && config_of_debug(&["DEBUG=*", "--debug"]));
    assert!(config_of_debug(&["DEBUG=TRUE"]) && !config_of_debug(&["DEBUG="]));
    check_fault(&["debug=*"], "debug=*: expected true, false, 1 or 0");
    check_fault(&["--debug=*"], "--debug=*: expected true, false, 1 or 0");
    check_fault(&["backoff=5s"], "backoff=5s: expected exponential or full or equal");
    check_fault(&["audit=/x"], "audit=/x: expected off or failures or all");
    assert_eq!(load_words(&["AUDIT=all"]).unwrap().config.audit.level, Audited::All);
    check_fault(&["MAX_INFLIGHT=abc"], "MAX_INFLIGHT=abc: expected a whole number from 1 to 100000");
}

fn config_of_debug(words: &[&str]) -> bool {
    config(words).log.debug
}

#[test]
fn what_is_not_utf_8_is_refused_in_our_settings_only() {
    let bytes = || OsString::from_vec(vec![b'a', 0xff]);
    let env = [("PATH".into(), bytes()), (bytes(), "x".into()), ("max_waiting".into(), bytes())];
    assert_eq!(load([], env).unwrap().notes.len(), 1);
    let attached = OsString::from_vec(b"--queue-name=\xff".to_vec());
    let args = [attached, "--nats-durable".into(), bytes()];
    let Err(Refusal::Invalid(faults)) = load(args, [("Ack_Wait".into(), bytes())]) else { panic!() };
    let expected = ["--queue-name", "--nats-durable", "Ack_Wait"]
        .map(|name| format!("{name}: expected a value in UTF-8"));
    assert_eq!(faults, expected);
}

#[test]
fn arguments_that_are_no_flags_of_ours_are_refused() {
    check_fault(&["--max-inflights=5"], "--max-inflights: expected one of the flags that --help lists");
    check_fault(&["--max-waiting=5"], "--max-waiting: expected one of the flags that --help lists");
    let Err(Refusal::Invalid(faults)) = load(["serve", "--debug", "x"].map(OsString::from), []) else {
        panic!()
    };
    let expected =
        [1, 3].map(|position| format!("argument {position}: expected a flag, such as --max-inflight=50"));
    assert_eq!(faults, expected);
}
