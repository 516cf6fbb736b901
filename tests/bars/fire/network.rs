//! A network between the workers and their broker that is slow, cuts connections, or swallows what they say.

use std::time::Duration;

use tokio::time::sleep;

use super::{CALL, House, behind, single};
use crate::{
    size,
    support::{Flow, Hole, Nats, Proxy, Way, Worker},
};

/// Two workers, each with a network of its own before the broker.
async fn behind_proxies(nats: &Nats, house: &House) -> ([Proxy; 2], [Worker; 2]) {
    let proxies = [Proxy::start(nats.port()).await, Proxy::start(nats.port()).await];
    let settings = [0, 1].map(|n| house.worker(n, &behind(proxies[n].port())));
    (proxies, [settings[0].start().await, settings[1].start().await])
}

/// No lease is lost for slowness: no fault is noted, and no call may be repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_time_and_no_call() {
    let (nats, mut house) = single(|_| CALL).await;
    let (proxies, _workers) = behind_proxies(&nats, &house).await;
    let ms = Duration::from_millis;
    let weathers = [
        (Way::Both, Flow { latency: ms(100), jitter: ms(100), ..Flow::default() }),
        (Way::ToServer, Flow { latency: ms(400), ..Flow::default() }),
        (Way::ToClient, Flow { jitter: ms(500), ..Flow::default() }),
        (Way::Both, Flow { bytes_per_second: Some(64 * 1024), ..Flow::default() }),
    ];
    house
        .under_fire(size(200, 6_000), Duration::from_millis(500), async |_, strike| {
            let (way, flow) = weathers[strike % weathers.len()];
            proxies.iter().for_each(|proxy| proxy.flow(way, flow));
            sleep(Duration::from_secs(2)).await;
            proxies.iter().for_each(Proxy::pass);
        })
        .await;
    let verdict = house.settle("latency, jitter and 64 KiB/s between worker and broker").await;
    assert_eq!(verdict.repeated, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_the_broker_that_are_reset_lose_nothing() {
    let (nats, mut house) = single(|_| CALL).await;
    let (proxies, _workers) = behind_proxies(&nats, &house).await;
    house
        .under_fire(size(250, 6_000), Duration::from_millis(500), async |house, strike| {
            let fault = house.fault("network", Some(strike % 2));
            proxies[strike % 2].reset();
            house.mended(fault);
        })
        .await;
    house.settle("connections between worker and broker reset").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_holes_before_the_broker_lose_nothing() {
    let (nats, mut house) = single(|_| CALL).await;
    let (proxies, _workers) = behind_proxies(&nats, &house).await;
    house
        .under_fire(size(200, 6_000), Duration::from_secs(1), async |house, strike| {
            let way = [Way::Both, Way::ToServer, Way::ToClient][strike % 3];
            let hole = Some(if strike % 4 == 1 { Hole::Holds } else { Hole::Swallows });
            let fault = house.fault("network", Some(strike % 2));
            proxies[strike % 2].flow(way, Flow { hole, ..Flow::default() });
            // Longer than a lease.
            sleep(Duration::from_secs(5)).await;
            // The connections that lost something stay as dead as they are: the worker has to find that out.
            proxies[strike % 2].pass();
            house.mended(fault);
        })
        .await;
    house.settle("black holes of 5 s between worker and broker, both ways and one way").await;
}
