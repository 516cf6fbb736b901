//! What the worker sends to NATS for a call, counted at the server. A call is acknowledged, and that is all
//! that it has to cost beside its share of a request for messages.

use futures_util::StreamExt;
use serde_json::Value;

use crate::{
    bar, size,
    support::{Answer, Gateway, Invocation, Nats, Proxy, QUEUE, Settings, Worker, free_port, http},
    until,
};

/// The most of them where it is proved that no message was settled before, and the bar for all.
const PROVED: (f64, f64) = (0.25, 1.2);
/// The same where that is looked for, for many messages at once. They were five or six a call when it was
/// looked for one by one.
const LOOKED_FOR: (f64, f64) = (1.0, 1.5);

/// A broker that can be counted at, and a gateway that answers.
struct House {
    nats: Nats,
    gateway: Gateway,
    watched: u16,
    calls: usize,
}

impl House {
    async fn open() -> Self {
        let watched = free_port();
        let nats = Nats::start_with(&format!("http: \"127.0.0.1:{watched}\"")).await;
        Self { nats, gateway: Gateway::start(|_| Answer::ok()).await, watched, calls: size(1_000, 3_000) }
    }

    fn worker(&self) -> Settings {
        Worker::of(&self.nats, &self.gateway).set("max_inflight", 64)
    }

    async fn publish(&self) {
        self.nats.publish_all((0..self.calls).map(|_| Invocation::of("f").body(vec![b'x'; 100]))).await;
    }

    /// How many messages the worker has sent and received over its present connection, by the server's own
    /// count.
    async fn messages(&self) -> Option<[u64; 2]> {
        let (_, text) = http::get(self.watched, "/connz").await.unwrap();
        let connz: Value = serde_json::from_str(&text).unwrap();
        let connections = connz["connections"].as_array().unwrap();
        let mut workers = connections.iter().filter(|connection| connection["name"] == "queue-worker");
        let worker = workers.next()?;
        Some(["in_msgs", "out_msgs"].map(|count| worker[count].as_u64().unwrap()))
    }

    /// Awaits that all calls after so many batches are settled, and counts messages since `before`.
    async fn settled(&self, batches: usize, before: [u64; 2]) -> [u64; 2] {
        let calls = (batches + 1) * self.calls;
        until("all are settled", async || self.gateway.count() >= calls && self.nats.count(QUEUE).await == 0)
            .await;
        let [sent, received] = self.messages().await.unwrap();
        [sent - before[0], received - before[1]]
    }

    /// Judges what was sent for a batch. At most `most` of the messages for a call may be neither its
    /// acknowledgement nor a request for messages: some are for the set-up, and some are sent every few
    /// seconds for as long as a slow machine takes. Of the requests there are more where calls end one by
    /// one.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn check(&self, when: &str, [sent, received]: [u64; 2], pulls: u64, (most, limit): (f64, f64)) {
        let each = |messages: u64| messages as f64 / self.calls as f64;
        let others = each(sent.saturating_sub(pulls)) - 1.0;
        println!(
            "     {when}: {sent} messages sent for {} calls, {pulls} of them requests; {received} received",
            self.calls
        );
        assert!(others < most, "{when}: {others:.2} messages a call are neither requests nor acks");
        bar(&format!("NATS messages sent for a call {when}"), each(sent), limit);
    }
}

/// Requests for messages.
const PULLS: &str = "$JS.API.CONSUMER.MSG.NEXT.>";
/// Questions about the stream of retries: what is in doubt is looked for with them.
const LOOKS: &str = "$JS.API.STREAM.INFO.faas-request-retries";

/// Counts the requests that anybody sends to a subject, until it is asked.
struct Heard {
    requests: async_nats::Subscriber,
}

impl Heard {
    async fn of(nats: &Nats, subject: &'static str) -> Self {
        let requests = nats.client().subscribe(subject).await.unwrap();
        nats.client().flush().await.unwrap();
        Self { requests }
    }

    async fn count(mut self, nats: &Nats) -> u64 {
        // What the server passed on before this is here when the answer is.
        nats.client().flush().await.unwrap();
        self.requests.unsubscribe().await.unwrap();
        let mut count = 0;
        while self.requests.next().await.is_some() {
            count += 1;
        }
        count
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_nats_an_acknowledgement_and_little_more() {
    let house = House::open().await;
    let proxy = Proxy::start(house.nats.port()).await;
    let settings = house.worker().set("nats_url", format!("nats://127.0.0.1:{}", proxy.port()));

    let pulls = Heard::of(&house.nats, PULLS).await;
    let mut worker = settings.start().await;
    house.publish().await;
    let first = house.settled(0, [0, 0]).await;
    house.check("from the start of a worker", first, pulls.count(&house.nats).await, PROVED);

    // The broker is the same still, and so nothing of it is forgotten.
    proxy.cut();
    let anew = |[sent, _]: [u64; 2]| sent < first[0];
    until("the connection is made again", async || house.messages().await.is_some_and(anew)).await;
    let pulls = Heard::of(&house.nats, PULLS).await;
    let before = house.messages().await.unwrap();
    house.publish().await;
    let sent = house.settled(1, before).await;
    house.check("after a connection that broke", sent, pulls.count(&house.nats).await, PROVED);

    assert_eq!(worker.drain().await, 0);
    house.publish().await;
    let pulls = Heard::of(&house.nats, PULLS).await;
    let mut worker = settings.start().await;
    let sent = house.settled(2, [0, 0]).await;
    house.check("of a backlog that waited for a worker", sent, pulls.count(&house.nats).await, PROVED);
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_worker_of_all_looks_for_nothing_and_one_after_a_killed_broker_for_many_at_once() {
    let mut house = House::open().await;
    house.nats.make_queue().await;
    house.publish().await;
    let (pulls, looks) = (Heard::of(&house.nats, PULLS).await, Heard::of(&house.nats, LOOKS).await);
    let mut worker = house.worker().start().await;
    let sent = house.settled(0, [0, 0]).await;
    let (pulls, first) = (pulls.count(&house.nats).await, looks.count(&house.nats).await);
    house.check("of a backlog that no worker was there for", sent, pulls, PROVED);
    assert_eq!(worker.drain().await, 0);

    house.publish().await;
    house.nats.restart().await;
    let (pulls, looks) = (Heard::of(&house.nats, PULLS).await, Heard::of(&house.nats, LOOKS).await);
    let mut worker = house.worker().start().await;
    let sent = house.settled(1, [0, 0]).await;
    let (pulls, again) = (pulls.count(&house.nats).await, looks.count(&house.nats).await);
    house.check("of a backlog that a killed broker had", sent, pulls, LOOKED_FOR);
    assert!(4 * first < again, "{first} looks where there was no doubt, {again} where there was");
    assert_eq!(worker.drain().await, 0);
}
