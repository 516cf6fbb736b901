//! A broker that is killed, and a broker that stands still.

use std::time::Duration;

use tokio::time::sleep;

use super::{CALL, single};
use crate::{full, size};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_loses_nothing_that_it_accepted() {
    let (mut nats, mut house) = single(|_| CALL).await;
    let (first, second) = (house.worker(0, &nats.url()), house.worker(1, &nats.url()));
    let _workers = [first.start().await, second.start().await];
    house
        .under_fire(size(250, 6_000), Duration::from_secs(2), async |house, _| {
            let fault = house.fault("broker", None);
            nats.restart().await;
            house.mended(fault);
        })
        .await;
    house.settle("broker SIGKILL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_loses_nothing() {
    let (nats, mut house) = single(|_| CALL).await;
    let (first, second) = (house.worker(0, &nats.url()), house.worker(1, &nats.url()));
    let _workers = [first.start().await, second.start().await];
    // Shorter than a lease, longer than one, and longer than the workers wait for a sign of life.
    let stalls = if full() { [5, 12, 40, 20] } else { [1, 5, 1, 2] };
    house
        .under_fire(size(200, 2_000), Duration::from_secs(size(1, 5)), async |house, strike| {
            let fault = house.fault("broker", None);
            nats.pause();
            sleep(Duration::from_secs(stalls[strike % stalls.len()])).await;
            nats.resume();
            house.mended(fault);
        })
        .await;
    house.settle("broker SIGSTOP, 5 s to 40 s").await;
}
