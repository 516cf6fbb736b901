//! Messages that no client library writes and the worker's cannot read: each cuts the worker's connection, or
//! ends its client. Each becomes a dead letter, and the others are called.

use std::io::Read;

use async_nats::{HeaderMap, jetstream::stream};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::read::GzDecoder;

use crate::rights::{restricted, rights};
use crate::support::{
    Answer, DEAD, Gateway, Invocation, Latch, Nats, QUEUE, RETRIES, Raw, Settings, Stored, Worker,
    eventually, stan::Peer,
};

/// Header blocks that cannot be read, and what is said about each.
const BLOCKS: [(&[u8], &str); 6] = [
    (b"NATS/1.0\r\nX: a\rb\r\n\r\n", "line 2 of the headers has a carriage return"),
    (b"NATS/1.0\r\nno colon\r\n\r\n", "line 2 of the headers has no colon"),
    (b"NATS/1.0\r\nX: \xff\r\n\r\n", "no UTF-8 at byte 13"),
    (b"NATS/1.0\r\n\xc3\x84: a\r\n\r\n", "the name in line 2"),
    (b"X: a\r\n\r\n", "do not begin with NATS/1.0"),
    (b"NATS/1.0\r\nX : a\r\n folded\r\n\r\n", "the name in line 2"),
];

async fn ready(nats: &Nats) -> (Gateway, Settings) {
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(nats, &gateway).set("ack_wait", "2s");
    (gateway, settings)
}

/// The letter is of a message with this block and this payload.
fn is_of(letter: &Stored, block: &[u8], payload: &[u8], said: &str) {
    assert_eq!(letter.subject, "faas-request-dead._undecodable");
    assert_eq!(letter.expect("Queue-Worker-Cause"), "undecodable");
    assert_eq!(letter.payload, payload);
    let kept = BASE64_STANDARD.decode(letter.expect("Queue-Worker-Raw-Headers")).unwrap();
    assert_eq!(kept.escape_ascii().to_string(), block.escape_ascii().to_string());
    let error = letter.expect("Queue-Worker-Last-Error");
    assert!(error.contains(said), "{error}");
}

/// Serves a message, so that it pulls still.
async fn serves(nats: &Nats, gateway: &Gateway, id: &str) {
    nats.publish(&Invocation::of("f").call_id(id)).await;
    gateway.await_that(id, |calls| calls.iter().any(|call| call.id() == id && call.end.is_some())).await;
}

#[tokio::test]
async fn each_malformed_block_in_the_queue_is_a_dead_letter_and_the_next_message_is_called() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, said)) in BLOCKS.iter().enumerate() {
        let payload = Invocation::of("f").call_id("poison").to_bytes();
        let sequence = raw.publish(QUEUE, block, &payload).await;
        serves(&nats, &gateway, &format!("after {nth}")).await;
        let letter = nats.dead_letters(nth as u64 + 1).await.remove(nth);
        is_of(&letter, block, &payload, said);
        assert!(letter.expect("Queue-Worker-Original-Id").starts_with(&format!("{QUEUE}:{sequence}-")));
        assert_eq!(
            (letter.expect("Queue-Worker-Function"), letter.expect("Queue-Worker-Call-Id")),
            ("f", "poison")
        );
    }
    assert_eq!(gateway.count(), BLOCKS.len());
    let metrics = worker.metrics().await;
    assert_eq!(
        metrics.value("queue_worker_dead_letters_total", &[("cause", "undecodable")]),
        BLOCKS.len() as f64
    );
    assert_eq!(worker.readyz().await.unwrap().0, 200);
}

#[tokio::test]
async fn each_malformed_block_in_the_retries_is_a_dead_letter_with_the_identity_that_it_tells() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let _worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, said)) in BLOCKS.iter().enumerate() {
        let place = if nth % 2 == 0 { "due" } else { "l0" };
        let told = format!("Queue-Worker-Original-Id: q:7-{nth}\r\nQueue-Worker-Attempts: 3\r\n\r\n");
        let block = [block.strip_suffix(b"\r\n").unwrap(), told.as_bytes()].concat();
        // Where there are schedules no level is emptied unless it has a consumer.
        let place = if nats.schedules() { "due" } else { place };
        raw.publish(&format!("{RETRIES}.{place}.f.7-{nth}.1"), &block, b"no invocation").await;
        serves(&nats, &gateway, &format!("after {nth}")).await;
        let letter = nats.dead_letters(nth as u64 + 1).await.remove(nth);
        is_of(&letter, &block, b"no invocation", said);
        assert_eq!(letter.expect("Queue-Worker-Original-Id"), format!("q:7-{nth}"));
        assert_eq!(letter.expect("Queue-Worker-Attempts"), "3");
    }
}

/// Two workers of so many calls each find each block among so many messages, and call each of these once.
async fn found_among(others: usize, max_inflight: usize) {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    nats.make_queue().await;
    let mut raw = Raw::connect(&nats).await;
    for (block, _) in BLOCKS {
        raw.publish(QUEUE, block, b"").await;
        nats.publish_all((0..others).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
        raw.publish(QUEUE, block, b"").await;
    }
    let settings = settings.set("max_inflight", max_inflight);
    let _workers = (settings.start().await, settings.start().await);
    let letters = nats.dead_letters(2 * BLOCKS.len() as u64).await;
    assert!(letters.iter().all(|letter| letter.expect("Queue-Worker-Cause") == "undecodable"));
    assert_eq!(gateway.count_that(|call| call.end.is_some()), others * BLOCKS.len());
}

#[tokio::test]
async fn several_among_many_are_found_by_two_workers_of_one_call_each() {
    found_among(20, 1).await;
}

#[tokio::test]
async fn several_among_a_thousand_are_found_by_two_workers_of_many_calls() {
    found_among(170, 50).await;
}

#[tokio::test]
async fn a_long_block_is_kept_compressed() {
    let nats = Nats::start().await;
    let (_gateway, settings) = ready(&nats).await;
    let _worker = settings.start().await;
    let block = [
        b"NATS/1.0\r\n".as_slice(),
        &b"X: a long line of a long block\r\n".repeat(2_000),
        b"no colon\r\n\r\n",
    ]
    .concat();
    Raw::connect(&nats).await.publish(QUEUE, &block, b"payload").await;
    let letter = nats.dead_letter().await;
    assert_eq!(
        (letter.expect("Queue-Worker-Raw-Headers-Encoding"), &letter.payload[..]),
        ("gzip", &b"payload"[..])
    );
    let packed = BASE64_STANDARD.decode(letter.expect("Queue-Worker-Raw-Headers")).unwrap();
    let mut kept = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut kept).unwrap();
    assert!(kept == block);
}

#[tokio::test]
async fn the_rights_of_any_worker_are_enough() {
    let nats = restricted(&rights(true)).await;
    let (gateway, settings) = ready(&nats).await;
    let settings = settings
        .set("nats_inbox_prefix", "_INBOX_worker")
        .set("nats_user", "worker")
        .file("nats_password_file", "secret");
    let worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, _)) in BLOCKS.iter().enumerate() {
        raw.publish(QUEUE, block, b"").await;
        serves(&nats, &gateway, &nth.to_string()).await;
    }
    nats.dead_letters(BLOCKS.len() as u64).await;
    assert!(worker.log_with("iolation").is_empty());
}

#[tokio::test]
async fn where_no_letter_is_stored_it_stays_and_holds_nobody_up() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let full = stream::Config {
        name: DEAD.to_owned(),
        subjects: vec![format!("{DEAD}.>")],
        max_messages: 1,
        ..Default::default()
    };
    nats.make_stream(stream::Config { discard: stream::DiscardPolicy::New, ..full }).await;
    nats.publish_raw("faas-request-dead.f", HeaderMap::new(), "full").await;
    let worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, _)) in BLOCKS.iter().take(2).enumerate() {
        raw.publish(QUEUE, block, b"kept").await;
        serves(&nats, &gateway, &nth.to_string()).await;
    }
    worker.await_log(&["could not be buried", "maximum messages exceeded"]).await;
    nats.await_counts([2, 0, 1]).await;
    for left in [1, 0] {
        nats.js().get_stream(DEAD).await.unwrap().purge().await.unwrap();
        nats.await_counts([left, 0, 1]).await;
    }
    assert_eq!(nats.messages(DEAD).await[0].payload, "kept");
}

#[tokio::test]
async fn a_call_under_way_keeps_its_lease_when_the_client_ends() {
    let nats = Nats::start().await;
    let latch = Latch::new();
    let held = latch.clone();
    let gateway =
        Gateway::start(
            move |call| if call.id() == "long" { Answer::ok().held_by(&held) } else { Answer::ok() },
        )
        .await;
    let worker = Worker::of(&nats, &gateway).set("ack_wait", "2s").start().await;
    nats.publish(&Invocation::of("f").call_id("long")).await;
    gateway.await_calls(1).await;
    let mut raw = Raw::connect(&nats).await;
    for nth in 0..3 {
        raw.publish(QUEUE, BLOCKS[0].0, b"").await;
        serves(&nats, &gateway, &nth.to_string()).await;
        nats.await_counts([1, 0, nth + 1]).await;
    }
    latch.open();
    nats.await_counts([0, 0, 3]).await;
    assert_eq!(gateway.calls().iter().filter(|call| call.id() == "long").count(), 1);
    assert!(worker.log_with("Lease lost").is_empty());
    assert_eq!(worker.log_with("the NATS client ended by itself").len(), 3);
}

#[tokio::test]
async fn in_a_stream_that_keeps_its_messages_it_is_acknowledged_and_stays() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    nats.make_stream(stream::Config { retention: stream::RetentionPolicy::Limits, ..Default::default() })
        .await;
    let mut worker = settings.set("nats_deliver", "all").start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, _)) in BLOCKS.iter().enumerate() {
        raw.publish(QUEUE, block, b"").await;
        serves(&nats, &gateway, &nth.to_string()).await;
    }
    eventually("all is settled", async || {
        let consumer = nats.consumer(QUEUE, "faas-workers").await;
        (consumer.num_ack_pending, consumer.num_pending) == (0, 0)
    })
    .await;
    assert_eq!(nats.counts().await, [2 * BLOCKS.len() as u64, 0, BLOCKS.len() as u64]);
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn without_dead_letters_it_is_dropped_with_a_warning_and_a_count() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let worker = settings.set("dead_letters", "false").start().await;
    let mut raw = Raw::connect(&nats).await;
    for (block, _) in BLOCKS {
        raw.publish(QUEUE, block, b"").await;
    }
    serves(&nats, &gateway, "next").await;
    nats.await_counts([0, 0, 0]).await;
    eventually("all are counted", async || {
        worker.metrics().await.value("queue_worker_dead_letters_dropped_total", &[]) == BLOCKS.len() as f64
    })
    .await;
    eventually("all are told", async || {
        worker.log_with("Dropped: dead_letters is false").len() == BLOCKS.len()
    })
    .await;
}

#[tokio::test]
async fn a_subject_that_the_client_cannot_read_is_no_obstacle_either() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let _worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    raw.publish_on(format!("{RETRIES}.due.\u{a0}.7-1.1").as_bytes(), b"fine without headers").await;
    raw.publish_on(&[RETRIES.as_bytes(), b".due.\xff.7-2.1"].concat(), b"").await;
    raw.publish(&format!("{RETRIES}.due.a\u{a0}b.7-3.1"), b"NATS/1.0\r\nX: a\r\n\r\n", b"").await;
    serves(&nats, &gateway, "next").await;
    let mut said: Vec<_> = nats
        .dead_letters(3)
        .await
        .iter()
        .map(|letter| letter.expect("Queue-Worker-Last-Error").to_owned())
        .collect();
    said.sort();
    assert_eq!(said[1..], ["the subject has blanks or is no UTF-8"; 2]);
}

#[tokio::test]
async fn a_status_in_a_stored_message_is_no_status_of_the_request() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    // A server from 2.12 on takes the status away.
    for status in ["100 Idle Heartbeat", "404", "408 Request Timeout", "409 Consumer Deleted", "503"] {
        let block = format!("NATS/1.0 {status}\r\n\r\n");
        raw.publish(QUEUE, block.as_bytes(), &Invocation::of("f").call_id(status).to_bytes()).await;
    }
    gateway.await_ended(5).await;
    nats.await_counts([0, 0, 0]).await;
    assert!(worker.log_with("lost the connection").is_empty());
    raw.publish(QUEUE, b"NATS/1.0 teapot\r\n\r\n", &Invocation::of("f").call_id("teapot").to_bytes()).await;
    serves(&nats, &gateway, "next").await;
    nats.await_counts([0, 0, u64::from(!nats.schedules())]).await;
}

#[tokio::test]
async fn the_bridge_listens_again_when_the_client_has_ended() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let worker = settings.set("stan_bridge", "true").start().await;
    let mut raw = Raw::connect(&nats).await;
    for (nth, (block, _)) in BLOCKS.iter().enumerate() {
        raw.send_block(b"_STAN.discover.faas-cluster", block, b"").await;
        eventually("connected again", async || {
            worker.metrics().await.value("queue_worker_nats_reconnect_total", &[]) == nth as f64 + 1.0
        })
        .await;
        let client = format!("client-{nth}");
        eventually("the bridge answers", async || Peer::try_connect(&nats, &client).await.is_ok()).await;
        let mut peer = Peer::connect(&nats).await;
        peer.publish(QUEUE, Invocation::of("f").call_id(&client).to_bytes()).await.unwrap();
        gateway.await_ended(nth + 1).await;
    }
    assert_eq!(worker.readyz().await.unwrap().0, 200);
}

#[tokio::test]
async fn what_waits_for_its_time_with_a_malformed_block_is_a_dead_letter() {
    let nats = Nats::start().await;
    let (gateway, settings) = ready(&nats).await;
    let _worker = settings.start().await;
    let mut raw = Raw::connect(&nats).await;
    let held = |nth: u32| format!("{RETRIES}.at.f.7-{nth}.1");
    // The broker's own timer wakes the first one, and the janitor the other.
    for (nth, at) in [(1, "2020"), (2, "2120")] {
        let schedule = format!(
            "Nats-Schedule: @at {at}-01-01T00:00:00Z\r\nNats-Schedule-Target: {RETRIES}.due.f.7-{nth}.1\r\n"
        );
        raw.publish(&held(nth), format!("NATS/1.0\r\n{schedule}X: a\rb\r\n\r\n").as_bytes(), b"").await;
    }
    for letter in nats.dead_letters(2).await {
        assert_eq!(letter.expect("Queue-Worker-Cause"), "undecodable");
        let kept = BASE64_STANDARD.decode(letter.expect("Queue-Worker-Raw-Headers")).unwrap();
        assert!(kept.windows(6).any(|part| part == b"X: a\rb"), "{}", kept.escape_ascii());
    }
    assert_eq!(gateway.count(), 0);
}
