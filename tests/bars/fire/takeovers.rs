//! How long two workers call the same message at once when one takes over from the other, by the gateway's
//! clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{behind, script::worker};
use crate::{
    percentile, size,
    support::{Answer, DEAD, Flow, Gateway, Hole, Invocation, Nats, Proxy, QUEUE, Way, Worker},
    until,
};

const ACK_WAIT: Duration = Duration::from_secs(2);

/// Two workers, each with a network of its own before the broker. What the victim calls is answered only to
/// the other.
struct Pair {
    nats: Nats,
    gateway: Gateway,
    proxies: [Proxy; 2],
    workers: [Worker; 2],
    victim: Arc<AtomicUsize>,
    /// How many calls the victim has in its hands when it is struck.
    held: usize,
    published: usize,
}

impl Pair {
    async fn open() -> Self {
        let (nats, held) = (Nats::start().await, size(25, 50));
        let victim = Arc::new(AtomicUsize::new(0));
        let prey = Arc::clone(&victim);
        let gateway = Gateway::start(move |call| {
            let held = call.nth == 1 && worker(call) == prey.load(Ordering::SeqCst);
            if held { Answer::silence() } else { Answer::ok().after(Duration::from_millis(100)) }
        })
        .await;
        let proxies = [Proxy::start(nats.port()).await, Proxy::start(nats.port()).await];
        let settings = [0, 1].map(|n| {
            let settings = Worker::of(&nats, &gateway)
                .set("nats_url", behind(proxies[n].port()))
                .set("max_inflight", held);
            let settings = settings.set("gateway_url", format!("{}/worker-{n}", gateway.url()));
            settings
                .set("ack_wait", format!("{}s", ACK_WAIT.as_secs()))
                .set("upstream_timeout", "10m")
                .set("function_lookup", false)
        });
        let workers = [settings[0].start().await, settings[1].start().await];
        Self { nats, gateway, proxies, workers, victim, held, published: 0 }
    }

    /// Gives the victim all the calls that it can hold, strikes it, and awaits that the other has made them.
    async fn round(&mut self, victim: usize, strike: impl AsyncFnOnce(&Self)) {
        self.victim.store(victim, Ordering::SeqCst);
        let held = || self.gateway.count_that(|call| call.end.is_none() && worker(call) == victim);
        while held() < self.held {
            let numbers = self.published..self.published + self.held;
            self.published = numbers.end;
            self.nats.publish_all(numbers.map(|n| Invocation::of("f").call_id(&format!("call-{n}")))).await;
            // The victim may have two more in its hands, one of each consumer, that wait there for a permit.
            let idle = async || {
                self.gateway.running() == held() && self.nats.count(QUEUE).await <= held() as u64 + 2
            };
            until("what the other took is done", idle).await;
        }
        strike(self).await;
        until("the other has made the calls", async || self.nats.counts().await == [0, 0, 0]).await;
    }

    /// For each message that was called twice, by how many seconds the first call outlived the beginning of
    /// the second.
    fn overlaps(&self) -> Vec<f64> {
        let (mut first, mut overlaps) = (vec![None; self.published], Vec::new());
        for call in self.gateway.calls() {
            let number: usize = call.id().strip_prefix("call-").unwrap().parse().unwrap();
            match first[number] {
                None => first[number] = call.end.map(|(end, _)| end),
                Some(end) => overlaps.push(seconds(end, call.arrived)),
            }
        }
        overlaps
    }
}

/// From the second to the first, negative where it is earlier.
fn seconds(end: Instant, start: Instant) -> f64 {
    if end > start { (end - start).as_secs_f64() } else { -(start - end).as_secs_f64() }
}

fn print(what: &str, overlaps: &mut [f64]) -> usize {
    let over = overlaps.iter().filter(|overlap| **overlap > 0.0).count();
    let (middle, most) = (percentile(overlaps, 0.5), percentile(overlaps, 1.0));
    println!(
        "     {what}: {} takeovers, {over} overlaps; from end to start {:+.3} s at the median, {:+.3} s at \
            the least",
        overlaps.len(),
        -middle,
        -most
    );
    over
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_called_by_two_when_one_of_them_is_cut_off_from_the_broker() {
    let mut pair = Pair::open().await;
    for round in 0..size(4, 20) {
        pair.round(round % 2, async |pair| {
            let proxy = &pair.proxies[round % 2];
            let hole = |way, hole| proxy.flow(way, Flow { hole: Some(hole), ..Flow::default() });
            match round % 5 {
                0 => hole(Way::Both, Hole::Swallows),
                1 => proxy.refuse(),
                2 => hole(Way::ToServer, Hole::Swallows),
                3 => hole(Way::ToClient, Hole::Swallows),
                _ => hole(Way::Both, Hole::Holds),
            }
        })
        .await;
        // What lost bytes stays dead until somebody notices, which is another scenario's matter.
        pair.proxies[round % 2].pass();
        pair.proxies[round % 2].reset();
        pair.workers[round % 2].ready().await;
    }
    let mut overlaps = pair.overlaps();
    assert!(overlaps.len() >= size(100, 1_000), "{} takeovers", overlaps.len());
    assert_eq!(print("cuts and black holes", &mut overlaps), 0);
    assert_eq!(pair.nats.count(DEAD).await, 0);
}

/// A process that does not run closes no connection. How long the calls of two workers overlap is the rest of
/// the stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_the_calls_of_a_worker_that_stands_still_overlap_with_the_next_ones() {
    let (mut pair, mut late) = (Pair::open().await, Vec::new());
    for round in 0..size(2, 20) {
        let before = pair.gateway.count();
        pair.round(round % 2, async |pair| {
            pair.workers[round % 2].pause();
            sleep(3 * ACK_WAIT).await;
        })
        .await;
        let resumed = Instant::now();
        pair.workers[round % 2].resume();
        until("the stalled one hangs up", async || pair.gateway.running() == 0).await;
        let ends = pair.gateway.calls().into_iter().skip(before).filter_map(|call| call.end);
        late.extend(ends.map(|(end, _)| seconds(end, resumed)).filter(|late| *late > 0.0));
        pair.workers[round % 2].ready().await;
    }
    let mut overlaps = pair.overlaps();
    assert!(overlaps.len() >= size(50, 1_000), "{} takeovers", overlaps.len());
    let over = print(&format!("workers stopped for {} s", (3 * ACK_WAIT).as_secs()), &mut overlaps);
    println!(
        "     {over} calls overlapped by {:.3} s at the median, {:.3} s at most; hung up {:.3} s after the \
            worker went on at the median, {:.3} s at most",
        percentile(&mut overlaps, 0.5),
        percentile(&mut overlaps, 1.0),
        percentile(&mut late, 0.5),
        percentile(&mut late, 1.0)
    );
    assert_eq!(pair.nats.count(DEAD).await, 0);
}
