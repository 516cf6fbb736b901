//! Accounts as hosting companies give them out: each stream needs a size, a consumer has little room, and
//! there are only so many of each.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::support::{Answer, DEAD, Gateway, Invocation, Nats, QUEUE, RETRIES, Settings, Worker, eventually};

/// A broker whose only account has these limits.
async fn hosted(limits: &str) -> Nats {
    Nats::start_with(&format!(
        "accounts {{\nHOSTED {{\njetstream {{ {limits} }}\n\
         users: [ {{ user: observer, password: observer }} ]\n}}\n\
         SYS {{ users: [ {{ user: sys, password: sys }} ] }}\n}}\nsystem_account: SYS"
    ))
    .await
}

const LIMITS: &str = "max_bytes_required: true, max_ack_pending: 1000, max_file: 100MB";
const SIZES: [(&str, u64); 3] = [
    ("nats_stream_max_bytes", 20_000_000),
    ("retries_max_bytes", 20_000_000),
    ("dead_letter_max_bytes", 10_000_000),
];

fn settings(nats: &Nats, gateway: &Gateway) -> Settings {
    let settings = Worker::of(nats, gateway).set("initial_retry_wait", "1s");
    settings.set("nats_user", "observer").file("nats_password_file", "observer")
}

fn sized(settings: Settings) -> Settings {
    SIZES.into_iter().fold(settings, |settings, (name, bytes)| settings.set(name, bytes))
}

async fn gateway() -> Gateway {
    Gateway::start(|call| match call.function() {
        "flaky" => Answer::status(if call.nth == 1 { 500 } else { 200 }),
        "bad" => Answer::status(400),
        _ => Answer::ok(),
    })
    .await
}

/// The worker ends, and its error has all these words.
async fn check_refused(settings: &Settings, words: &[&str]) {
    let mut worker = settings.spawn();
    assert_eq!(worker.exit().await, 1);
    let errors = worker.log_with(" error ");
    assert!(errors.iter().any(|line| words.iter().all(|word| line.contains(word))), "{words:?}: {errors:?}");
}

/// What the doctor says has all these words.
async fn check_doctor(settings: &Settings, code: i32, words: &[&str]) {
    let (found, text) = settings.doctor(&[]).await;
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn an_account_that_wants_sizes_and_grants_little_room_is_worked_in() {
    let (nats, gateway) = (hosted(LIMITS).await, gateway().await);
    let settings = settings(&nats, &gateway);
    let all = ["nats_stream_max_bytes", "retries_max_bytes", "dead_letter_max_bytes"];
    check_refused(&settings, &[&["10113", "wants a size"][..], &all].concat()).await;
    assert!(nats.streams().await.is_empty());
    check_doctor(
        &settings,
        1,
        &[
            "max_bytes_required",
            "nats_stream_max_bytes=1GiB",
            "retries_max_bytes=1GiB",
            "dead_letter_max_bytes=1GiB",
        ],
    )
    .await;

    // Half of what is needed, and then the rest of it: what was made is used.
    check_refused(
        &settings.clone().set("nats_stream_max_bytes", 20_000_000),
        &["set retries_max_bytes", "dead_letter_max_bytes"],
    )
    .await;
    assert_eq!(nats.streams().await, [QUEUE]);
    let settings = sized(settings);
    let mut worker = settings.start().await;
    assert!(
        worker.log_with("max_inflight").iter().all(|line| !line.contains(" warn ")),
        "{:?}",
        worker.log_with(" warn ")
    );
    for (stream, (_, bytes)) in [QUEUE, RETRIES, DEAD].into_iter().zip(SIZES) {
        let made = nats.stream(stream).await.config;
        assert_eq!(made.max_bytes, i64::try_from(bytes).unwrap(), "{stream}");
        assert_eq!(format!("{:?}", made.discard), if stream == DEAD { "Old" } else { "New" }, "{stream}");
        assert!(!made.allow_message_schedules, "{stream}");
    }
    let levels = (0..=16).map(|k| (RETRIES, format!("l{k}")));
    for (stream, name) in
        [(QUEUE, "faas-workers".to_owned()), (RETRIES, "due".to_owned())].into_iter().chain(levels)
    {
        assert_eq!(nats.consumer(stream, &name).await.config.max_ack_pending, 1_000, "{name}");
    }
    for function in ["good", "flaky", "bad"] {
        nats.publish(&Invocation::of(function).call_id(function)).await;
    }
    gateway.await_ended(4).await;
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Function"), "bad");
    assert_eq!(worker.drain().await, 0);
    check_doctor(&settings, 0, &["The guarantee holds: 0 fail", "levels of faas-request-retries"]).await;
}

#[tokio::test]
async fn less_room_than_the_calls_need_is_warned_about_with_what_would_do() {
    let (nats, gateway) = (hosted("max_ack_pending: 1000").await, gateway().await);
    let settings = settings(&nats, &gateway);
    for (inflight, crowded) in [("250", false), ("400", true)] {
        let settings = settings.clone().set("max_inflight", inflight);
        let mut worker = settings.start().await;
        for consumer in ["consumer faas-workers may", "consumer due may"].into_iter().filter(|_| crowded) {
            worker.await_log(&["warn", consumer, "max_ack_pending", "set max_inflight to 250"]).await;
        }
        for (stream, name) in [(QUEUE, "faas-workers"), (RETRIES, "due")] {
            assert_eq!(nats.consumer(stream, name).await.config.max_ack_pending, 1_000, "{name}");
        }
        assert_eq!(worker.drain().await, 0);
        assert_eq!(worker.log_with("set max_inflight to").is_empty(), !crowded);
        check_doctor(
            &settings,
            0,
            if crowded { &["max_ack_pending: 1000", "max_inflight=250"] } else { &["0 warn"][..0] },
        )
        .await;
    }
}

#[tokio::test]
async fn room_that_was_granted_before_is_kept_when_the_account_grants_less() {
    let (nats, gateway) = (hosted("max_ack_pending: 5000").await, gateway().await);
    let settings = settings(&nats, &gateway);
    assert_eq!(settings.start().await.drain().await, 0);
    nats.reconfigure("max_ack_pending: 5000", "max_ack_pending: 1000");
    nats.reload().await;
    let mut worker = settings.set("ack_wait", "30s").start().await;
    worker.await_log(&["warn", "faas-workers", "would grant it less room"]).await;
    assert_eq!(nats.consumer(QUEUE, "faas-workers").await.config.max_ack_pending, 5_000);
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn what_an_account_does_not_grant_is_named_and_made_when_it_does() {
    for (limits, set, words, granted) in [
        (
            "max_streams: 2",
            &[][..],
            &["10027", "faas-request-dead cannot be created", "3 streams"][..],
            "max_streams: 3",
        ),
        ("max_consumers: 1", &[("retry_timer", "levels")], &["10026", "19 with levels"], "max_consumers: 19"),
        (
            "disk_max_stream_bytes: 10MB",
            &SIZED,
            &["10122", "nats_stream_max_bytes=20000000"],
            "disk_max_stream_bytes: 20MB",
        ),
        ("max_file: 30MB", &SIZED, &["10047", "retries_max_bytes=20000000"], "max_file: 60MB"),
        ("max_mem: 1MB", &[("nats_stream_replicas", "3")], &["nats_stream_replicas=3"], ""),
    ] {
        let (mut nats, gateway) = (hosted(limits).await, gateway().await);
        let settings =
            set.iter().fold(settings(&nats, &gateway), |settings, (name, value)| settings.set(name, value));
        check_refused(&settings, words).await;
        check_doctor(&settings, 1, &["account"]).await;
        if granted.is_empty() {
            continue;
        }
        nats.reconfigure(limits, granted);
        nats.restart().await;
        assert_eq!(settings.start().await.drain().await, 0, "{granted}");
    }
}

/// The sizes above, as they are typed.
const SIZED: [(&str, &str); 3] =
    [("nats_stream_max_bytes", "20000000"), ("retries_max_bytes", "20MB"), ("dead_letter_max_bytes", "10MB")];

#[tokio::test]
async fn a_full_queue_refuses_and_loses_nothing() {
    let (nats, gateway) = (hosted(LIMITS).await, gateway().await);
    let settings = sized(settings(&nats, &gateway)).set("nats_stream_max_bytes", 4_000);
    assert_eq!(settings.start().await.drain().await, 0);
    let mut accepted = 0;
    while nats
        .js()
        .publish(QUEUE, Invocation::of("good").call_id(&accepted.to_string()).to_bytes().into())
        .await
        .unwrap()
        .await
        .is_ok()
    {
        accepted += 1;
    }
    assert!(accepted > 0);
    let _worker = settings.start().await;
    gateway.await_ended(accepted).await;
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn a_stream_of_retries_that_was_full_empties_when_calls_succeed_again() {
    let well = Arc::new(AtomicBool::new(false));
    let state = well.clone();
    let nats = hosted(LIMITS).await;
    let gateway =
        Gateway::start(move |_| Answer::status(if state.load(Ordering::Relaxed) { 200 } else { 500 })).await;
    let settings =
        sized(settings(&nats, &gateway)).set("retries_max_bytes", 40_000).set("max_retry_attempts", 1_000);
    let _worker = settings.set("max_inflight", 100).set("max_retry_wait", "1s").start().await;
    nats.publish_all((0..100).map(|n| Invocation::of("f").call_id(&n.to_string()).body("x".repeat(500))))
        .await;
    gateway.await_ended(100).await;
    eventually("no more is parked", async || nats.stream(RETRIES).await.state.bytes > 15_000).await;
    well.store(true, Ordering::Relaxed);
    nats.await_counts([0, 0, 0]).await;
}
