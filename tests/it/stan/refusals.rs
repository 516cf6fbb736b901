//! What the bridge does not take, and says so.

use async_nats::jetstream::stream;
use prost::Message;
use tokio::time::{Instant, sleep};

use super::{counted, taken};
use crate::support::{
    Answer, Gateway, Invocation, Nats, QUEUE, Worker,
    stan::{Peer, Publish},
};

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
    // The server cuts a connection for which it would have to keep 64 MiB.
    const MESSAGES: usize = 60;
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
    for n in 0..MESSAGES {
        peer.send(&Publish { guid: format!("g{n}"), ..message.clone() }).await;
    }
    let mut errors = Vec::new();
    for _ in 0..MESSAGES {
        errors.push(peer.ack().await.error);
    }
    let waited = errors.iter().filter(|error| error.contains("maximum bytes exceeded")).count();
    let turned_away = errors.iter().filter(|error| error.contains("too many messages wait")).count();
    assert_eq!(waited + turned_away, MESSAGES, "{errors:?}");
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
