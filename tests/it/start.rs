//! What keeps a worker from starting, and what it says about it.

use tokio::process::Command;

use crate::support::{Answer, Gateway, Nats, Worker};

/// Users of the broker: the scenario's own, and the worker with these permissions.
fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users = [ {{ user: observer, password: observer }}, \
         {{ user: worker, password: secret, permissions: {{ {permissions} }} }} ] }}"
    )
}

#[tokio::test]
async fn wrong_credentials_end_the_worker() {
    let nats = Nats::start_with(&users("")).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("nats_user", "worker");
    let mut refused = settings.clone().file("nats_password_file", "guessed").spawn();
    assert_eq!(refused.exit().await, 1);
    assert!(refused.log_with("guessed").is_empty(), "the password is in the log");

    // The right one works, with the line's end that editors leave.
    let mut welcome = settings.file("nats_password_file", "secret\n").start().await;
    assert_eq!(welcome.drain().await, 0);
}

#[tokio::test]
async fn missing_rights_end_the_worker_and_the_subject_is_named() {
    for (denied, named) in
        [("$JS.API.STREAM.>", "$JS.API.STREAM."), ("$JS.API.CONSUMER.>", "$JS.API.CONSUMER.")]
    {
        let nats = Nats::start_with(&users(&format!("publish: {{ deny: [\"{denied}\"] }}"))).await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let settings =
            Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", "secret");
        let mut worker = settings.spawn();
        assert_eq!(worker.exit().await, 1, "without {denied}");
        assert!(!worker.log_with(named).is_empty(), "no line names {named}");
    }
}

#[tokio::test]
async fn a_broker_without_jetstream_ends_the_worker() {
    let nats = Nats::start_without_jetstream().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).spawn();
    assert_eq!(worker.exit().await, 1);
    assert!(!worker.log_with("JetStream").is_empty(), "no line speaks of JetStream");
}

#[tokio::test]
async fn all_bad_settings_are_reported_each_with_its_value() {
    let nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let bad = [
        ("max_inflight", "0"),
        ("ack_wait", "5"),
        ("upstream_timeout", "1d"),
        ("max_retry_attempts", "-1"),
        ("http_retry_codes", "429,teapot"),
        ("backoff", "sometimes"),
        ("nats_deliver", "old"),
        ("dead_letters", "perhaps"),
    ];
    let settings = Worker::of(&nats, &gateway).set("unknown_to_everyone", "x");
    let mut worker = bad.iter().fold(settings, |settings, (name, value)| settings.set(name, value)).spawn();
    assert_eq!(worker.exit().await, 64);
    for (name, value) in bad {
        assert!(
            worker.log_with(name).iter().any(|line| line.contains(value)),
            "no line has {name} and {value}"
        );
    }
    assert!(worker.log_with("unknown_to_everyone").is_empty());
}

#[tokio::test]
async fn spellings_of_a_setting_that_disagree_are_an_error_and_empty_ones_are_not_set() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway)
        .set("MAX_INFLIGHT", "3")
        .set("ackWait", "")
        .set("NATS_PORT", "tcp://10.0.0.1:4222");
    assert_eq!(settings.clone().set("maxInflight", "4").spawn().exit().await, 64);
    assert_eq!(settings.set("maxInflight", "3").start().await.drain().await, 0);
}

#[tokio::test]
async fn the_credentials_of_a_gateways_url_are_an_error_and_not_repeated() {
    let nats = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker =
        Worker::of(&nats, &gateway).set("gateway_url", "http://user:hunter2@127.0.0.1:8080").spawn();
    assert_eq!(worker.exit().await, 64);
    assert!(!worker.log_with("gateway_url").is_empty());
    assert!(worker.log_with("hunter2").is_empty(), "the password is in the log");
}

#[tokio::test]
async fn help_names_the_settings_and_their_defaults() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_queue-worker")).arg("--help").env_clear().output().await.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for setting in [
        "doctor",
        "nats-url",
        "max-retry-attempts",
        "initial-retry-wait",
        "http-retry-codes",
        "429,502,500,504,408",
    ] {
        assert!(text.contains(setting), "{setting} is not in\n{text}");
    }
}
