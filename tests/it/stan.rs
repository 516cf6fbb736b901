//! The STAN bridge: what a gateway that only speaks the NATS Streaming protocol publishes is stored and
//! called like all else.

use std::{collections::HashSet, time::Duration};

use prost::Message;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Call, Gateway, Invocation, Latch, Nats, Proxy, QUEUE, Worker, eventually, patiently,
    stan::{Peer, Subscribed},
};

mod refusals;

const STORED: &str = "queue_worker_stan_messages_total";

async fn counted(worker: &Worker, result: &str) -> f64 {
    worker.metrics().await.get(STORED, &[("result", result)]).unwrap_or_default()
}

/// How many messages the queue ever took.
async fn taken(nats: &Nats) -> u64 {
    nats.stream(QUEUE).await.state.last_sequence
}

#[tokio::test]
async fn what_a_gateway_publishes_is_stored_byte_for_byte_and_called() {
    let latch = Latch::new();
    let held = latch.clone();
    let nats = Nats::start().await;
    let gateway = Gateway::start(move |_| Answer::ok().held_by(&held)).await;
    let worker =
        Worker::of(&nats, &gateway).set("stan_bridge", true).set("function_lookup", false).start().await;
    let mut peer = Peer::connect(&nats).await;
    let data = Invocation::of("f").call_id("a").body(b"\0\xff").to_bytes();
    let guid = peer.publish(QUEUE, data.clone()).await.unwrap();

    let stored = nats.messages(QUEUE).await.remove(0);
    assert_eq!((stored.payload.as_ref(), stored.expect("Nats-Msg-Id")), (data.as_slice(), guid.as_str()));
    assert_eq!(stored.nats_headers(), ["Nats-Msg-Id"]);
    let call = gateway.await_calls(1).await.remove(0);
    assert_eq!((call.id(), call.request.body.as_ref()), ("a", b"\0\xff".as_slice()));
    latch.open();
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(counted(&worker, "stored").await, 1.0);
    worker.await_log(&["info", "NATS Streaming", "faas-cluster", QUEUE]).await;
}

#[tokio::test]
async fn a_message_that_is_published_again_is_acknowledged_and_stored_once() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker =
        Worker::of(&nats, &gateway).set("stan_bridge", true).set("function_lookup", false).start().await;
    let mut peer = Peer::connect(&nats).await;
    let message = peer.message(QUEUE, Invocation::of("f").call_id("a").to_bytes());
    for _ in 0..3 {
        peer.publish_message(&message).await.unwrap();
    }
    nats.await_counts([0, 0, 0]).await;
    assert_eq!((taken(&nats).await, gateway.count()), (1, 1));
    assert_eq!((counted(&worker, "stored").await, counted(&worker, "duplicate").await), (1.0, 2.0));
}

#[tokio::test]
async fn each_of_several_queues_is_a_channel() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings =
        Worker::of(&nats, &gateway).set("stan_bridge", true).set("queue_name", "faas-request,team.slow");
    let worker = settings.start().await;
    let mut peer = Peer::connect(&nats).await;
    for channel in [QUEUE, "team.slow"] {
        peer.publish(channel, Invocation::of("f").call_id(channel).to_bytes()).await.unwrap();
        assert_eq!(
            worker.metrics().await.value(STORED, &[("queue_name", channel), ("result", "stored")]),
            1.0
        );
    }
    let error = peer.publish("team", "").await.unwrap_err();
    assert!(error.ends_with("served: faas-request, team.slow"), "{error}");
    gateway.await_calls(2).await;
    assert_eq!((nats.stream("team_slow").await.state.last_sequence, taken(&nats).await), (1, 1));
}

#[tokio::test]
async fn retries_and_dead_letters_work_behind_the_bridge() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| match (call.function(), call.nth) {
        ("bad", _) => Answer::status(400),
        (_, 1) => Answer::status(500),
        _ => Answer::ok(),
    })
    .await;
    let settings = Worker::of(&nats, &gateway)
        .set("faas_nats_cluster_name", "faas-cluster")
        .set("initial_retry_wait", "50ms");
    let _worker = settings.start().await;
    let mut peer = Peer::connect(&nats).await;
    for function in ["flaky", "bad"] {
        peer.publish(QUEUE, Invocation::of(function).call_id(function).to_bytes()).await.unwrap();
    }
    let dead = nats.dead_letter().await;
    assert_eq!((dead.expect("Queue-Worker-Call-Id"), dead.expect("Queue-Worker-Cause")), ("bad", "refused"));
    assert_eq!(gateway.calls_of("flaky").iter().map(Call::retry).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn a_bridge_that_is_denied_its_subjects_is_opened_again_while_the_queue_is_served() {
    let nats = Nats::start_with(
        "authorization { users = [ { user: observer, password: observer }, \
         { user: worker, password: secret, permissions: { \
         publish: \">\", subscribe: { deny: [\"_STAN.discover.>\"] } } } ] }",
    )
    .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("stan_bridge", true).set("function_lookup", false);
    let settings = settings.set("nats_user", "worker").file("nats_password_file", "secret");
    let worker = settings.spawn();
    eventually("/readyz says why", async || {
        worker.readyz().await.is_some_and(|(status, reason)| {
            status == 503
                && reason.contains("NATS Streaming: NATS denies")
                && reason.contains("_STAN.discover.faas-cluster")
        })
    })
    .await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_ended(1).await;

    nats.reconfigure("_STAN.discover", "_STAN.elsewhere");
    nats.reload().await;
    worker.ready().await;
    let mut peer = Peer::connect(&nats).await;
    peer.publish(QUEUE, Invocation::of("f").call_id("b").to_bytes()).await.unwrap();
    gateway.await_ended(2).await;
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_bridge() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("faas_nats_cluster_name", "").start().await;
    let error = Peer::try_connect(&nats, "x").await.err().unwrap();
    assert!(error.contains("no responders"), "{error}");
}

#[tokio::test]
async fn a_session_needs_nothing_but_answers() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    assert!(Peer::try_connect(&nats, "no spaces").await.err().unwrap().contains("invalid client ID"));
    let peer = Peer::connect(&nats).await;
    // A client whose pings find nobody for hours keeps its session.
    assert_eq!((peer.told.protocol, peer.told.ping_interval, peer.told.ping_max_out), (1, 5, i32::MAX));
    for subject in [&peer.told.ping_requests, &peer.told.close_requests] {
        assert!(peer.ask(subject, "").await.is_empty(), "{subject}");
    }
    for subject in [&peer.told.sub_requests, &peer.told.unsub_requests, &peer.told.sub_close_requests] {
        let answer = Subscribed::decode(peer.ask(subject, "").await).unwrap();
        assert!(answer.error.contains("only takes messages in"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_message_waits_for_a_queue_that_is_made_anew() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    let mut peer = Peer::connect(&nats).await;
    nats.js().delete_stream(QUEUE).await.unwrap();
    peer.publish(QUEUE, Invocation::of("f").call_id("a").to_bytes()).await.unwrap();
    assert_eq!(taken(&nats).await, 1);
}

#[tokio::test]
async fn two_workers_share_a_cluster_and_one_that_is_killed_takes_no_session_with_it() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    // What the one that is killed was calling is called again soon.
    let settings = Worker::of(&nats, &gateway).set("stan_bridge", true).set("ack_wait", "2s");
    let (mut first, second) = tokio::join!(settings.start(), settings.start());
    let mut peer = Peer::connect(&nats).await;
    let publish = |n: usize| Invocation::of("f").call_id(&n.to_string()).to_bytes();
    let mut published = 0;
    while counted(&first, "stored").await < 5.0 || counted(&second, "stored").await < 5.0 {
        peer.publish(QUEUE, publish(published)).await.unwrap();
        published += 1;
    }
    first.kill().await;
    // The broker may still believe in the one that was killed.
    let message = peer.message(QUEUE, publish(published));
    peer.publish_all(&[message], 1, async |_| {}).await;
    drop(second);
    let _third = settings.start().await;
    let message = peer.message(QUEUE, publish(published + 1));
    peer.publish_all(&[message], 1, async |_| {}).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(taken(&nats).await, published as u64 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_leaves_no_message_without_its_acknowledgement() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway).set("stan_bridge", true).set("ack_wait", "5s");
    let _stays = settings.start().await;
    // On a slow line much is on its way when the one that leaves says so.
    let proxy = Proxy::start(nats.port()).await;
    let far = settings.set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));
    let mut peers = JoinSet::new();
    let over = Latch::new();
    for _ in 0..8 {
        let (mut peer, held) = (Peer::connect(&nats).await, over.clone());
        peers.spawn(async move {
            let mut count = 0_u64;
            // One at a time, like a caller who waits for the answer: one that was lost would never be
            // acknowledged.
            while patiently("either", async {
                tokio::select! { biased; () = held.opened() => false, () = async {} => true }
            })
            .await
            {
                peer.publish(QUEUE, Invocation::of("f").to_bytes()).await.unwrap();
                count += 1;
            }
            count
        });
    }
    for _ in 0..3 {
        let mut leaves = far.start().await;
        proxy.delay(Duration::from_millis(10));
        eventually("it takes its share", async || counted(&leaves, "stored").await > 20.0).await;
        assert_eq!(leaves.drain().await, 0);
        proxy.pass();
    }
    over.open();
    let published: u64 = peers.join_all().await.into_iter().sum();
    assert_eq!(taken(&nats).await, published);
    nats.await_counts([0, 0, 0]).await;
}

#[tokio::test]
async fn what_was_acknowledged_before_the_broker_was_killed_is_there_afterwards() {
    let mut nats = Nats::start().await;
    // All stays in the queue but the first, whose call never ends.
    let gateway = Gateway::start(|_| Answer::silence()).await;
    let _worker = Worker::of(&nats, &gateway).set("stan_bridge", true).set("max_inflight", 1).start().await;
    let mut peer = Peer::connect(&nats).await;
    let data = Invocation::of("f").to_bytes();
    let messages: Vec<_> = (0..400).map(|_| peer.message(QUEUE, data.clone())).collect();
    let mut acked = HashSet::new();
    let mut seen = 0;
    peer.publish_all(&messages, 50, async |guid| {
        acked.insert(guid.to_owned());
        seen += 1;
        if seen == 150 {
            nats.restart().await;
        }
    })
    .await;
    let mut stored: Vec<_> =
        nats.messages(QUEUE).await.iter().map(|message| message.expect("Nats-Msg-Id").to_owned()).collect();
    stored.sort();
    let mut expected: Vec<_> = acked.into_iter().collect();
    expected.sort();
    assert_eq!((stored.len(), stored), (400, expected));
}
