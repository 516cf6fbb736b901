//! What a parked retry looks like on the wire, which other versions and other tools read.

use std::{
    io::Read,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{HeaderMap, jetstream::stream};
use flate2::read::GzDecoder;

use crate::support::{
    Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Stored, Worker, base36,
};

/// What may be written on a clone. How many of the waits were delayed cannot be told from the attempts once
/// there are immediate retries.
const KNOWN: [&str; 10] = [
    "Queue-Worker-Attempts",
    "Queue-Worker-Call-Id",
    "Queue-Worker-Due",
    "Queue-Worker-First-Seen",
    "Queue-Worker-Function",
    "Queue-Worker-History",
    "Queue-Worker-Hop",
    "Queue-Worker-Last-Error",
    "Queue-Worker-Last-Status",
    "Queue-Worker-Original-Id",
];

/// For longer than any test.
const LONG: Duration = Duration::from_secs(1_000_000);

/// Somebody else's parked retry.
fn bystander(nats: &Nats) -> String {
    format!("{RETRIES}.{}.bystander.1-a.1", nats.place(LONG))
}

/// The payload as it was published, whatever its encoding.
fn plain(message: &Stored) -> Vec<u8> {
    match message.header("Queue-Worker-Encoding") {
        None => message.payload.to_vec(),
        Some("gzip") => {
            let mut plain = Vec::new();
            GzDecoder::new(&*message.payload).read_to_end(&mut plain).unwrap();
            plain
        }
        Some(other) => panic!("unknown encoding {other}"),
    }
}

#[tokio::test]
async fn a_parked_retry_carries_its_identity_its_due_time_and_its_story() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::status(500).held_by(&held)).await;
    let _worker = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "10m")
        .set("max_retry_wait", "10m")
        .start()
        .await;
    let invocation = Invocation::of("f.ns").call_id("a").body("hello");
    let sequence = nats.publish(&invocation).await;
    gateway.await_calls(1).await;
    let fresh = nats.messages(QUEUE).await.remove(0);
    latch.open();
    nats.await_counts([0, 1, 0]).await;

    let clone = nats.messages(RETRIES).await.remove(0);
    let id = format!("{sequence}-{}", base36(fresh.time.duration_since(UNIX_EPOCH).unwrap().as_nanos()));
    assert_eq!(clone.subject, format!("{RETRIES}.{}.f%2Ens.{id}.1", nats.place(Duration::from_secs(600))));
    assert_eq!(clone.payload, invocation.to_bytes());
    if nats.schedules() {
        assert_eq!(
            clone.nats_headers(),
            ["Nats-Msg-Id", "Nats-Rollup", "Nats-Schedule", "Nats-Schedule-Target"]
        );
        assert_eq!(clone.expect("Nats-Rollup"), "sub", "the broker's own mark on a schedule");
        assert_eq!(clone.expect("Nats-Schedule"), format!("@at {}", clone.expect("Queue-Worker-Due")));
        assert_eq!(clone.expect("Nats-Schedule-Target"), format!("{RETRIES}.due.f%2Ens.{id}.1"));
    } else {
        assert_eq!(clone.nats_headers(), ["Nats-Msg-Id"]);
    }
    for (name, value) in [
        ("Nats-Msg-Id", format!("{id}.1")),
        ("Queue-Worker-Hop", "1".to_owned()),
        ("Queue-Worker-Attempts", "1".to_owned()),
        ("Queue-Worker-Original-Id", format!("{QUEUE}:{id}")),
        ("Queue-Worker-Call-Id", "a".to_owned()),
        ("Queue-Worker-Function", "f.ns".to_owned()),
        ("Queue-Worker-Last-Status", "500".to_owned()),
    ] {
        assert_eq!(clone.expect(name), value, "{name}");
    }
    let others = clone.names_with("Queue-Worker-");
    assert!(others.iter().all(|name| KNOWN.contains(&name.as_str())), "{others:?}");
    let first_seen = clone.time_in("Queue-Worker-First-Seen");
    let apart = fresh.time.duration_since(first_seen).unwrap_or_else(|error| error.duration());
    assert!(apart < Duration::from_secs(1), "first seen {apart:?} away from {:?}", fresh.time);
    let parked_for = clone.time_in("Queue-Worker-Due").duration_since(clone.time).unwrap();
    assert!(
        parked_for <= Duration::from_secs(601) && parked_for > Duration::from_secs(570),
        "{parked_for:?}"
    );
    let mut history = clone.expect("Queue-Worker-History").splitn(4, ':');
    assert_eq!((history.next(), history.next()), (Some("1"), Some("500")));
}

#[tokio::test]
async fn each_clone_is_one_hop_further_under_the_same_identity() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 4);
    let _worker = settings.start().await;
    let mut watch = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let clones = watch.take(3).await;
    let original = clones[0].expect("Queue-Worker-Original-Id");
    let id = original.split_once(':').unwrap().1;
    for (generation, clone) in (1..).zip(&clones) {
        assert_eq!(clone.subject, format!("{RETRIES}.{}.f.{id}.{generation}", nats.place(Duration::ZERO)));
        assert_eq!(clone.expect("Nats-Msg-Id"), format!("{id}.{generation}"));
        assert_eq!(clone.expect("Queue-Worker-Hop"), generation.to_string());
        assert_eq!(clone.expect("Queue-Worker-Attempts"), generation.to_string());
        assert_eq!(clone.expect("Queue-Worker-Original-Id"), original);
        assert_eq!(clone.expect("Queue-Worker-First-Seen"), clones[0].expect("Queue-Worker-First-Seen"));
    }
    nats.dead_letter().await;
}

/// A fresh message with these headers is parked like any other, and nobody else's retry suffers.
async fn check_hostile(headers: &[(&str, &str)]) {
    let nats = Nats::start().await;
    // Schedules or roll-ups on the queue itself let a caller's `Nats-*` headers through to the worker.
    let (allow_message_schedules, allow_rollup) = (nats.schedules(), !nats.schedules());
    let retention = stream::RetentionPolicy::WorkQueue;
    nats.make_stream(stream::Config {
        retention,
        allow_message_schedules,
        allow_rollup,
        ..Default::default()
    })
    .await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth == 1 { 500 } else { 200 })).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "300ms").start().await;
    let mut watch = nats.watch_parked().await;
    let mut holder = HeaderMap::new();
    if nats.schedules() {
        holder.insert("Nats-Schedule", "@at 2099-01-01T00:00:00Z");
        holder.insert("Nats-Schedule-Target", format!("{RETRIES}.due.bystander.1-a.1"));
    }
    holder.insert("Queue-Worker-Due", "2099-01-01T00:00:00Z");
    nats.publish_raw(&bystander(&nats), holder, Invocation::of("bystander").to_bytes()).await;
    watch.next().await;

    let mut hostile = HeaderMap::new();
    for (name, value) in headers {
        hostile.insert(*name, *value);
    }
    nats.publish_raw(QUEUE, hostile, Invocation::of("f").call_id("a").to_bytes()).await;
    let clone = watch.next().await;
    assert_eq!(clone.nats_headers(), nats.timer_headers());
    assert_ne!(clone.expect("Nats-Msg-Id"), "mine");
    assert_eq!((clone.expect("Queue-Worker-Attempts"), clone.expect("Queue-Worker-Hop")), ("1", "1"));
    assert_ne!(clone.expect("Queue-Worker-Original-Id"), "faas-request:1-a");
    let others = clone.names_with("Queue-Worker-");
    assert!(others.iter().all(|name| KNOWN.contains(&name.as_str())), "{others:?}");
    let calls = gateway.await_calls(2).await;
    assert_eq!((calls[0].retry(), calls[1].retry()), (0, 1));
    nats.await_counts([0, 1, 0]).await;
    assert_eq!(
        nats.messages(RETRIES).await[0].subject,
        bystander(&nats),
        "somebody else's retry is still parked"
    );
}

#[tokio::test]
async fn headers_that_a_caller_put_on_a_fresh_message_change_nothing_and_stay_behind() {
    check_hostile(&[
        ("Nats-Msg-Id", "mine"),
        ("Queue-Worker-Attempts", "9"),
        ("Queue-Worker-Hop", "7"),
        ("Queue-Worker-Original-Id", "faas-request:1-a"),
        ("Queue-Worker-Interruptions", "4"),
        ("Queue-Worker-Kind", "callback"),
        ("Queue-Worker-Encoding", "gzip"),
        ("Queue-Worker-Redrives", "3"),
        ("Queue-Worker-Of-Tomorrow", "x"),
    ])
    .await;
}

#[tokio::test]
async fn headers_that_would_wipe_a_stream_stay_behind() {
    check_hostile(&[("Nats-Rollup", "all")]).await;
    check_hostile(&[
        ("Nats-Scheduler", "faas-request-retries.at.bystander.1-a.1"),
        ("Nats-Schedule-Next", "purge"),
    ])
    .await;
}

#[tokio::test]
async fn what_the_broker_puts_on_a_fired_retry_is_not_copied_to_the_next() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let _worker = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "100ms")
        .set("max_retry_attempts", 3)
        .start()
        .await;
    let mut watch = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    for clone in watch.take(2).await {
        assert_eq!(clone.nats_headers(), nats.timer_headers());
    }
    let dead = nats.dead_letter().await;
    assert_eq!(dead.nats_headers(), ["Nats-Msg-Id"]);
}

#[tokio::test]
async fn headers_of_a_later_version_are_carried_on() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    let mut watch = nats.watch_parked().await;
    let mut headers = HeaderMap::new();
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    for (name, value) in [
        ("Queue-Worker-Hop", "1"),
        ("Queue-Worker-Attempts", "1"),
        ("Queue-Worker-Due", &now),
        ("Queue-Worker-First-Seen", &now),
        ("Queue-Worker-Original-Id", "faas-request:7-abc"),
        ("Queue-Worker-Call-Id", "a"),
        ("Queue-Worker-Function", "f"),
        ("Queue-Worker-Of-Tomorrow", "x"),
    ] {
        headers.insert(name, value);
    }
    nats.publish_raw(
        &format!("{RETRIES}.due.f.7-abc.1"),
        headers,
        Invocation::of("f").call_id("a").to_bytes(),
    )
    .await;
    let clone = watch.next().await;
    assert_eq!(clone.subject, format!("{RETRIES}.{}.f.7-abc.2", nats.place(Duration::ZERO)));
    assert_eq!((clone.expect("Queue-Worker-Attempts"), clone.expect("Queue-Worker-Of-Tomorrow")), ("2", "x"));
    assert_eq!(nats.dead_letter().await.expect("Queue-Worker-Of-Tomorrow"), "x");
    assert_eq!(gateway.calls()[0].retry(), 1);
}

#[tokio::test]
async fn a_payload_as_large_as_the_broker_takes_is_parked_and_dead_lettered_whole() {
    const LIMIT: usize = 20_000;
    let nats = Nats::start_with(&format!("max_payload: {LIMIT}")).await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    let mut watch = nats.watch_parked().await;
    // Noise, so that only base64 itself can be compressed.
    let mut seed = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(seed >> 24).unwrap()
    })
    .take(LIMIT)
    .collect();
    let overhead = Invocation::of("f").call_id("a").body("").to_bytes().len();
    let invocation = Invocation::of("f").call_id("a").body(&noise[..(LIMIT - overhead) / 4 * 3]);
    assert!(LIMIT - invocation.to_bytes().len() < 4, "the message fills what the broker takes");
    nats.publish(&invocation).await;

    for clone in watch.take(2).await {
        assert_eq!(clone.header("Queue-Worker-Encoding"), Some("gzip"));
        assert_eq!(plain(&clone), invocation.to_bytes());
    }
    let dead = nats.dead_letter().await;
    assert_eq!((dead.subject.as_str(), plain(&dead)), (&*format!("{DEAD}.f"), invocation.to_bytes()));
    for call in gateway.calls() {
        assert_eq!(&*call.request.body, &noise[..(LIMIT - overhead) / 4 * 3]);
    }
}

#[tokio::test]
async fn a_small_payload_is_not_compressed_however_well_it_would_be() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let _worker = Worker::of(&nats, &gateway).set("initial_retry_wait", "10m").start().await;
    let invocation = Invocation::of("f").call_id("a").body(vec![b'x'; 100_000]);
    nats.publish(&invocation).await;
    nats.await_counts([0, 1, 0]).await;
    let clone = nats.messages(RETRIES).await.remove(0);
    assert_eq!(
        (clone.header("Queue-Worker-Encoding"), clone.payload.to_vec()),
        (None, invocation.to_bytes())
    );
}
