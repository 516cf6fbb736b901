//! The STAN bridge: what a gateway that only speaks the NATS Streaming protocol publishes is stored and
//! called like all else.

use std::{collections::HashSet, time::Duration};

use async_nats::jetstream::stream;
use prost::Message;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{
    Answer, Call, Gateway, Invocation, Latch, Nats, Proxy, QUEUE, Worker, eventually, patiently,
    stan::{Peer, Publish, Subscribed},
};

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
        "authorization { users = [ { user: observer, password: observer }, { user: worker, password: secret, permissions: { \
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
async fn a_message_to_anything_but_a_queue_is_refused_in_words() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    let mut peer = Peer::connect(&nats).await;
    let mut deletions = nats.watch("$JS.API.STREAM.DELETE.>").await;
    for channel in [
        "other",
        "$JS.API.STREAM.DELETE.faas-request",
        "faas-request-dead.f",
        "faas-request-retries.due.f.1-1.1",
        "",
    ] {
        let error = peer.publish(channel, "").await.unwrap_err();
        assert!(
            error.contains(&format!("\"{channel}\"")) && error.ends_with("served: faas-request"),
            "{error}"
        );
    }
    assert_eq!(counted(&worker, "refused").await, 5.0);
    worker.await_log(&["warn", "NATS Streaming"]).await;
    assert_eq!(worker.log_with(" warn ").iter().filter(|line| line.contains("NATS Streaming")).count(), 1);

    // Nor is anything answered where an answer would be an order.
    let order = "$JS.API.STREAM.DELETE.faas-request".to_owned();
    for subject in [
        peer.told.ping_requests.clone(),
        peer.told.close_requests.clone(),
        format!("{}.x", peer.told.pub_prefix),
    ] {
        peer.client.publish_with_reply(subject, order.clone(), "".into()).await.unwrap();
    }
    let message = peer.message("other", "").encode_to_vec();
    let subject = format!("{}.x", peer.told.pub_prefix);
    peer.client
        .publish_with_reply(subject.clone(), "faas-request-dead.f", message.clone().into())
        .await
        .unwrap();
    peer.client.publish(subject, message.into()).await.unwrap();
    // What is answered after them shows that they have been seen.
    peer.publish(QUEUE, Invocation::of("f").to_bytes()).await.unwrap();
    nats.await_counts([0, 0, 0]).await;
    nats.client().publish(order.replace(QUEUE, "none"), "".into()).await.unwrap();
    assert_eq!(deletions.next().await.subject, order.replace(QUEUE, "none"));
}

#[tokio::test]
async fn garbage_leaves_the_worker_serving() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    let mut peer = Peer::connect(&nats).await;
    let whole = peer.message("other", Invocation::of("f").to_bytes());
    let bytes = whole.encode_to_vec();
    let mut garbage: Vec<Vec<u8>> = (0..bytes.len()).map(|length| bytes[..length].to_vec()).collect();
    for _ in 0..500 {
        garbage.push((0..rand::random_range(0..200)).map(|_| rand::random()).collect());
        let mut bent = bytes.clone();
        bent[rand::random_range(0..bytes.len())] = rand::random();
        garbage.push(bent);
    }
    // Lengths that nothing follows, groups without an end, wrong types of fields, and ids that cannot be
    // headers.
    garbage.push(vec![0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    garbage.push(vec![0x2a, 0x80, 0x80, 0x80, 0x80, 0x10]);
    garbage.push(vec![0x0b; 10_000]);
    garbage.push(vec![0x08, 0x01, 0x10, 0x01, 0x18, 0x01]);
    for guid in [
        String::new(),
        "a b".to_owned(),
        "a\r\nNats-Rollup: all".to_owned(),
        "g".repeat(100_000),
        "é".to_owned(),
    ] {
        garbage.push(Publish { guid, subject: QUEUE.to_owned(), ..whole.clone() }.encode_to_vec());
    }
    garbage.push(
        Publish { client_id: String::new(), conn_id: Vec::new(), subject: QUEUE.to_owned(), ..whole }
            .encode_to_vec(),
    );
    let sent = garbage.len();
    for bytes in garbage {
        for subject in
            [&peer.told.ping_requests, &peer.told.sub_requests, &"_STAN.discover.faas-cluster".to_owned()]
        {
            peer.client
                .publish_with_reply(subject.clone(), peer.client.new_inbox(), bytes.clone().into())
                .await
                .unwrap();
        }
        peer.send_raw(bytes).await;
    }
    for _ in 0..sent {
        assert!(!peer.ack().await.error.is_empty());
    }
    peer.publish(QUEUE, Invocation::of("f").to_bytes()).await.unwrap();
    gateway.await_calls(1).await;
    assert_eq!(taken(&nats).await, 1);
    // Not one line a message.
    assert!(worker.log_with("NATS Streaming").len() < 10, "{:?}", worker.log_with("NATS Streaming"));
}

#[tokio::test]
async fn what_the_broker_does_not_take_is_not_acknowledged_but_refused() {
    let nats = Nats::start_with("max_payload: 64KiB").await;
    // Full after one message, which the worker cannot finish.
    let full = stream::Config { max_messages: 1, discard: stream::DiscardPolicy::New, ..Default::default() };
    nats.make_stream(stream::Config { retention: stream::RetentionPolicy::WorkQueue, ..full }).await;
    let gateway = Gateway::start(|_| Answer::silence()).await;
    let worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    let mut peer = Peer::connect(&nats).await;
    // It fits as the client sends it, and not with the headers that it needs.
    let mut large = peer.message(QUEUE, vec![b'x'; 64 * 1024]);
    large.conn_id.clear();
    (large.client_id, large.guid) = ("c".to_owned(), "g".to_owned());
    large.data.truncate(2 * 64 * 1024 - large.encoded_len());
    let error = peer.publish_message(&large).await.unwrap_err();
    assert!(error.contains("larger than the broker takes") && error.contains("65536"), "{error}");

    peer.publish(QUEUE, Invocation::of("f").to_bytes()).await.unwrap();
    let error = peer.publish(QUEUE, Invocation::of("f").to_bytes()).await.unwrap_err();
    assert!(error.contains("maximum messages exceeded"), "{error}");
    assert_eq!(
        (taken(&nats).await, counted(&worker, "refused").await, counted(&worker, "failed").await),
        (1, 1.0, 1.0)
    );
}

#[tokio::test]
async fn what_waits_is_bounded_and_the_rest_is_refused_aloud() {
    const SIZE: usize = 1_000_000;
    let nats = Nats::start().await;
    // It says no to all of them, and is asked again for a moment.
    nats.make_stream(stream::Config {
        max_bytes: 1,
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    })
    .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker =
        Worker::of(&nats, &gateway).set("stan_bridge", true).set("nats_deliver", "all").start().await;
    let mut peer = Peer::connect(&nats).await;
    let message = peer.message(QUEUE, vec![b'x'; SIZE]);
    for n in 0..100 {
        peer.send(&Publish { guid: format!("g{n}"), ..message.clone() }).await;
    }
    let mut errors = Vec::new();
    for _ in 0..100 {
        errors.push(peer.ack().await.error);
    }
    let waited = errors.iter().filter(|error| error.contains("maximum bytes exceeded")).count();
    let turned_away = errors.iter().filter(|error| error.contains("too many messages wait")).count();
    assert_eq!(waited + turned_away, 100, "{errors:?}");
    assert!(turned_away > 0 && waited >= (32 << 20) / SIZE - 1, "{waited} waited");
    assert!(worker.rss() < 150_000_000, "{} bytes", worker.rss());
}

#[tokio::test]
async fn what_waited_too_long_for_its_turn_is_refused_and_not_stored_behind_its_clients_back() {
    const MESSAGES: usize = 2_000;
    const STORED_AT_ONCE: u64 = 256;
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let _worker = Worker::of(&nats, &gateway).set("stan_bridge", true).start().await;
    let mut peer = Peer::connect(&nats).await;
    // Somebody hears what is published, and nobody says anything.
    let takes = |subject: &str| stream::Config {
        name: QUEUE.to_owned(),
        subjects: vec![subject.to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let silent = nats.client().subscribe(QUEUE).await.unwrap();
    nats.js().update_stream(takes("elsewhere")).await.unwrap();
    let message = peer.message(QUEUE, Invocation::of("f").to_bytes());
    let began = Instant::now();
    for n in 0..MESSAGES {
        peer.send(&Publish { guid: format!("g{n}"), ..message.clone() }).await;
    }
    peer.ask(&peer.told.ping_requests, "").await;
    let last_received = began.elapsed();
    let mut refused = usize::from(!peer.ack().await.error.is_empty());
    // The first one has waited as long as any may; so much later the last one has.
    sleep(last_received).await;
    nats.js().update_stream(takes(QUEUE)).await.unwrap();
    drop(silent);
    for _ in 1..MESSAGES {
        refused += usize::from(!peer.ack().await.error.is_empty());
    }
    let stored = taken(&nats).await;
    assert_eq!(stored as usize + refused, MESSAGES);
    assert!(stored <= STORED_AT_ONCE, "{stored} were stored after their clients were to be told");
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
