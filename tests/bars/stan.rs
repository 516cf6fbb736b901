//! The STAN bridge: an acknowledgement is the truth.

use std::{collections::HashMap, time::Duration};

use async_nats::HeaderMap;
use tokio::time::Instant;

use crate::{
    bar, size,
    support::{
        Answer, Gateway, Invocation, Nats, QUEUE, Worker,
        stan::{Peer, Publish},
    },
};

const WINDOW: usize = 200;

struct House {
    nats: Nats,
    _gateway: Gateway,
    _worker: Worker,
    peer: Peer,
    messages: Vec<Publish>,
}

impl House {
    /// A worker that finishes nothing, so that the queue keeps all that it takes.
    async fn open() -> Self {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::silence()).await;
        let worker =
            Worker::of(&nats, &gateway).set("stan_bridge", true).set("max_inflight", 1).start().await;
        let mut peer = Peer::connect(&nats).await;
        let messages = (0..size(1_000, 10_000)).map(|n| {
            let invocation = Invocation::of("f").call_id(&format!("call-{n}")).body(vec![b'x'; 1000]);
            peer.message(QUEUE, invocation.to_bytes())
        });
        let messages = messages.collect();
        Self { nats, _gateway: gateway, _worker: worker, peer, messages }
    }

    /// How often each id is stored, and whether its bytes are what was published.
    async fn check_the_books(&self) {
        let stored = self.nats.messages(QUEUE).await;
        let mut sent: HashMap<_, _> =
            self.messages.iter().map(|message| (message.guid.as_str(), &message.data)).collect();
        assert_eq!(stored.len(), sent.len());
        for message in &stored {
            let guid = message.expect("Nats-Msg-Id");
            let data =
                sent.remove(guid).unwrap_or_else(|| panic!("{guid} is stored twice, or was never sent"));
            assert_eq!(message.payload, *data, "{guid}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_stored_once_and_before_it_is_acknowledged() {
    let mut house = House::open().await;
    let js = house.nats.js();
    let start = Instant::now();
    let again = house
        .peer
        .publish_all(&house.messages, WINDOW, async |guid| {
            // The stream takes it for a duplicate only if it has it; else it would be stored here, and show
            // in the books.
            let headers = HeaderMap::from_iter([("Nats-Msg-Id".parse().unwrap(), guid.parse().unwrap())]);
            let ack = js.publish_with_headers(QUEUE, headers, "".into()).await.unwrap().await.unwrap();
            assert!(ack.duplicate, "{guid} was acknowledged before it was stored");
        })
        .await;
    let (n, took) = (house.messages.len(), start.elapsed());
    println!(
        "     {n} messages, each looked for at its acknowledgement: {:.1} s, {again} sent again",
        took.as_secs_f64()
    );
    assert_eq!(again, 0);
    house.check_the_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_taken_at_speed() {
    let mut house = House::open().await;
    let start = Instant::now();
    let again = house.peer.publish_all(&house.messages, WINDOW, async |_| {}).await;
    #[allow(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let each = start.elapsed().as_secs_f64() / house.messages.len() as f64;
    println!(
        "     {} messages through the bridge: {:.0} a second, {again} sent again",
        house.messages.len(),
        1.0 / each
    );
    bar("seconds for a message through the bridge", each, Duration::from_millis(2).as_secs_f64());
    house.check_the_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_missing_when_the_broker_was_killed() {
    let mut house = House::open().await;
    let (mut acked, half) = (0, house.messages.len() / 2);
    let nats = &mut house.nats;
    let again = house
        .peer
        .publish_all(&house.messages, WINDOW, async |_| {
            acked += 1;
            if acked == half {
                nats.restart().await;
            }
        })
        .await;
    println!("     {acked} messages, the broker killed after {half}: {again} sent again");
    house.check_the_books().await;
}
