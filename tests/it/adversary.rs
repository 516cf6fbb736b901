//! Attempts to lose a message, to run one twice, or to stop a worker without anybody noticing.

use std::time::Duration;

use async_nats::{HeaderMap, jetstream};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{
    Answer, Cluster, DEAD, Gateway, Invocation, Nats, Proxy, QUEUE, RETRIES, Worker, binary, count,
    eventually, eventually_is, has_schedules, patiently,
};

/// Whether it comes true within so many seconds.
async fn within(seconds: u64, mut probe: impl AsyncFnMut() -> bool) -> bool {
    timeout(Duration::from_secs(seconds), async {
        while !probe().await {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .is_ok()
}

async fn scaled(before: usize) {
    let cluster = Cluster::start().await;
    let js = cluster.connect().await;
    let nowhere = Nats::absent();
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nowhere, &gateway)
        .set("nats_url", cluster.url())
        .set("ack_wait", "3s")
        .set("nats_stream_replicas", before)
        .set("initial_retry_wait", "10ms");
    let worker = settings.start().await;
    if before == 1 {
        for name in [RETRIES, DEAD] {
            let mut config = js.get_stream(name).await.unwrap().cached_info().config.clone();
            config.num_replicas = 3;
            config.duplicate_window = Duration::from_secs(15);
            config.allow_message_schedules = name == RETRIES;
            js.update_stream(config).await.unwrap();
            cluster.replicated(&js, name).await;
        }
    }
    // The worker stands still while another takes the message and dies.
    worker.pause();
    sleep(Duration::from_secs(2)).await;
    let consumer: jetstream::consumer::PullConsumer =
        js.get_consumer_from_stream("faas-workers", QUEUE).await.unwrap();
    js.publish(QUEUE, Invocation::of("f").call_id("a").to_bytes().into()).await.unwrap().await.unwrap();
    let mut taken = consumer.batch().max_messages(1).messages().await.unwrap();
    patiently("the first delivery", taken.next()).await.unwrap().unwrap();
    worker.resume();
    let counts = async || {
        let mut counts = Vec::new();
        for name in [QUEUE, RETRIES, DEAD] {
            counts.push(count(&js, name, has_schedules(binary())).await);
        }
        counts
    };
    eventually_is("queued, parked, dead", vec![0, 0, 0], async || counts().await).await;
    assert_eq!(gateway.count(), 1, "settled without a call: lost");
}

#[tokio::test]
async fn a_message_survives_a_stream_that_was_given_replicas_under_a_running_worker() {
    scaled(1).await;
}

#[tokio::test]
async fn a_message_survives_a_death_on_replicated_streams() {
    scaled(3).await;
}

#[tokio::test]
async fn queues_whose_derived_names_collide_are_refused() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let _first = Worker::of(&nats, &gateway).set("queue_name", "a.b").set("nats_stream", "one").start().await;
    let mut second = Worker::of(&nats, &gateway).set("queue_name", "a_b").set("nats_stream", "two").spawn();
    let code = timeout(Duration::from_secs(8), second.exit()).await;
    assert!(matches!(code, Ok(1 | 64)), "{code:?}");
}

#[tokio::test]
async fn a_worker_whose_consumer_was_deleted_says_so_or_makes_it_again() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).set("ack_wait", "3s").start().await;
    nats.js().get_stream(QUEUE).await.unwrap().delete_consumer("faas-workers").await.unwrap();
    nats.publish(&Invocation::of("f").call_id("a")).await;
    let noticed = within(25, async || {
        gateway.count() > 0 || worker.readyz().await.is_none_or(|(status, _)| status == 503)
    })
    .await;
    assert!(noticed, "the worker is ready and works not");
    worker.kill().await;
}

#[tokio::test]
async fn a_worker_whose_broker_lost_its_store_says_so_or_makes_it_again() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let mut worker = Worker::of(&nats, &gateway).set("ack_wait", "3s").start().await;
    for name in [QUEUE, RETRIES, DEAD] {
        nats.js().delete_stream(name).await.unwrap();
    }
    let noticed = within(25, async || {
        nats.count(QUEUE).await;
        nats.streams().await.len() == 3 || worker.readyz().await.is_none_or(|(status, _)| status == 503)
    })
    .await;
    assert!(noticed, "the worker is ready and there is no stream");
    worker.kill().await;
}

#[tokio::test]
async fn a_drain_during_a_callback_does_not_repeat_the_call() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let receiver = Gateway::start(|call| if call.nth == 1 { Answer::silence() } else { Answer::ok() }).await;
    let settings = Worker::of(&nats, &gateway).set("shutdown_grace", "300ms").set("ack_wait", "5s");
    let mut worker = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a").callback(&format!("{}/cb", receiver.url()))).await;
    receiver.await_calls(1).await;
    assert_eq!(worker.drain().await, 0);
    let _worker = settings.start().await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), 1, "the call was finished and is not made again");
}

#[tokio::test]
async fn an_overdue_retry_behind_many_that_are_not_due_is_made() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    // The first has no schedule, so that the broker refuses to fire it.
    for n in 0..220 {
        let mut headers = HeaderMap::new();
        headers.insert("Queue-Worker-Original-Id", format!("{QUEUE}:{n}-{n}"));
        headers.insert(
            "Queue-Worker-Due",
            if (1..210).contains(&n) { "2099-01-01T00:00:00Z" } else { "2025-01-01T00:00:00Z" },
        );
        if n > 0 {
            headers.insert("Nats-Schedule", "@at 2099-01-01T00:00:00Z");
            headers.insert("Nats-Schedule-Target", format!("{RETRIES}.due.f.{n}-{n}.1"));
        }
        nats.publish_raw(
            &format!("{RETRIES}.at.f.{n}-{n}.1"),
            headers,
            Invocation::of("f").call_id(&n.to_string()).to_bytes(),
        )
        .await;
    }
    let made = within(35, async || gateway.count() >= 10).await;
    assert!(made, "only {} of 10 overdue retries were made", gateway.count());
}

#[tokio::test]
async fn a_call_id_that_http_does_not_allow_gets_a_stand_in() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).start().await;
    nats.publish(&Invocation::of("f").call_id("a\r\nX-Evil: 1")).await;
    let call = gateway.await_calls(1).await.remove(0);
    assert!(!call.id().is_empty(), "{call:?}");
}

#[tokio::test]
async fn a_function_with_a_great_many_headers_is_called_once() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|_| (0..150).fold(Answer::ok(), |answer, n| answer.header(&format!("H{n}"), "x")))
            .await;
    let _worker = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "10ms")
        .set("max_retry_attempts", 3)
        .start()
        .await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    eventually("it ends", async || nats.count(QUEUE).await == 0 && nats.count(RETRIES).await == 0).await;
    assert_eq!((gateway.count(), nats.count(DEAD).await), (1, 0));
}

#[tokio::test]
async fn a_drain_without_grace_hands_everything_back_untouched() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::silence()).await;
    let settings =
        Worker::of(&nats, &gateway).set("shutdown_grace", "0s").set("ack_wait", "2s").set("max_inflight", 20);
    let watch = nats.js();
    for round in 0..3 {
        let mut worker = settings.start().await;
        nats.publish_all((0..200).map(|n| Invocation::of("f").call_id(&format!("{round}-{n}")))).await;
        gateway.await_calls(20 * (round + 1)).await;
        assert_eq!(worker.drain().await, 0);
    }
    sleep(Duration::from_millis(2500)).await;
    let queue = watch.get_stream(QUEUE).await.unwrap().consumer_info("faas-workers").await.unwrap();
    let due = watch.get_stream(RETRIES).await.unwrap().consumer_info("due").await.unwrap();
    assert_eq!((queue.num_ack_pending, due.num_ack_pending), (0, 0));
}

#[tokio::test]
async fn hostile_messages_stop_nobody() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let mut n = 0;
    let long = "a".repeat(255);
    for name in ["_probe", "_undecodable", "at", "due", "-", "_", &long] {
        nats.publish(&Invocation::of(name).call_id(name)).await;
        n += 1;
    }
    let deep = "[".repeat(500_000);
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"null".to_vec(),
        deep.into_bytes(),
        br#"{"Function":"f","Function":"g"}"#.to_vec(),
        br#"{"Function":"f","Path":"/\u0000"}"#.to_vec(),
        Invocation::of("f").field("QueryString", json!("q".repeat(100_000))).to_bytes(),
        Invocation::of("f").path(&format!("/{}", "p".repeat(100_000))).to_bytes(),
        Invocation::of("f").field("QueryString", json!("a b#c\r\nX: y\u{e9}")).to_bytes(),
        Invocation::of("f").header(&"h".repeat(70_000), "x").to_bytes(),
        Invocation::of("f").header("X", &"v".repeat(300_000)).to_bytes(),
        Invocation::of("f").header("", "x").header("a b", "x").header("X\r\nY", "\0").to_bytes(),
        Invocation::of("f")
            .field(
                "Header",
                json!(
                    (0..40_000).map(|n| (format!("h{n}"), json!(["x"]))).collect::<serde_json::Map<_, _>>()
                ),
            )
            .to_bytes(),
        Invocation::of("f").retry_annotation("attempts", &"9".repeat(1000)).to_bytes(),
    ];
    for body in bodies {
        nats.publish_raw(QUEUE, HeaderMap::new(), body).await;
        n += 1;
    }
    nats.dead_letters(n).await;
    assert!(worker.log_with("Panic").is_empty());
}

#[tokio::test]
async fn a_broker_that_refuses_the_credentials_for_a_moment_does_not_stop_the_worker_for_good() {
    let users = r#"authorization { users = [ { user: observer, password: observer }, { user: worker, password: secret } ] }"#;
    let mut nats = Nats::start_with(users).await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings =
        Worker::of(&nats, &gateway).set("nats_user", "worker").file("nats_password_file", "secret");
    let mut worker = settings.start().await;
    nats.kill().await;
    nats.reconfigure("secret", "other");
    nats.boot().await;
    sleep(Duration::from_secs(2)).await;
    nats.kill().await;
    nats.reconfigure("other", "secret");
    nats.boot().await;
    let up = within(15, async || worker.readyz().await.is_none_or(|(status, _)| status == 200)).await;
    worker.kill().await;
    assert!(up, "neither ended nor connected");
}

#[tokio::test]
async fn a_network_that_stalls_for_a_moment_interrupts_nothing() {
    let nats = Nats::start().await;
    let proxy = Proxy::start(nats.port()).await;
    let gateway = Gateway::start(|_| Answer::ok().after(Duration::from_millis(20))).await;
    let settings = Worker::of(&nats, &gateway).set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let worker = settings.set("ack_wait", "20s").set("max_inflight", 32).start().await;
    nats.publish_all((0..6000).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    gateway.await_calls(50).await;
    for _ in 0..5 {
        proxy.black_hole();
        sleep(Duration::from_millis(3500)).await;
        proxy.pass();
        sleep(Duration::from_millis(500)).await;
    }
    nats.await_counts([0, 0, 0]).await;
    let interrupted = worker.log_with("Interrupted").len();
    assert_eq!(interrupted, 0, "nothing was interrupted: no worker died and no lease ended");
}

#[tokio::test]
async fn a_message_with_a_great_many_headers_is_dead_lettered_without_a_panic() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("ack_wait", "2s").start().await;
    for names in [24_570, 24_577, 32_760, 32_770, 40_000] {
        let headers = (0..names).map(|n| (format!("h{n}"), json!(["x"]))).collect::<serde_json::Map<_, _>>();
        nats.publish_raw(
            QUEUE,
            HeaderMap::new(),
            Invocation::of("f").field("Header", json!(headers)).to_bytes(),
        )
        .await;
    }
    eventually("all end", async || nats.count(QUEUE).await + nats.count(RETRIES).await == 0).await;
    assert!(worker.log_with("Panic").is_empty());
}

#[tokio::test]
async fn what_stays_in_its_stream_is_not_called_without_end() {
    let nats = Nats::start_with("max_payload: 65536").await;
    let gateway = Gateway::start(|_| Answer::status(500)).await;
    let settings = Worker::of(&nats, &gateway)
        .set("initial_retry_wait", "100ms")
        .set("max_retry_wait", "10s")
        .set("max_retry_attempts", 3);
    let _worker = settings.start().await;
    let mut state = 88_172_645_463_325_252_u64;
    let noise: String = (0..21_300)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from_u32(0x4E00 + u32::try_from(state % 20_000).unwrap()).unwrap()
        })
        .collect();
    // Base64-free noise: gzip takes a tenth of it at most, and headers do not fit.
    let mut config = nats.stream(RETRIES).await.config;
    config.max_message_size = 20_000;
    config.allow_message_schedules = true;
    nats.js().update_stream(config).await.unwrap();
    nats.publish_raw(
        QUEUE,
        HeaderMap::new(),
        Invocation::of("f").call_id("a").field("X", json!(noise)).to_bytes(),
    )
    .await;
    sleep(Duration::from_secs(10)).await;
    let calls = gateway.calls();
    let waits: Vec<_> = calls.windows(2).map(|two| (two[1].arrived - two[0].arrived).as_millis()).collect();
    assert!(calls.len() <= 7, "no back-off: {waits:?}");
}
