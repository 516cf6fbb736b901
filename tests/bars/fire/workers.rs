//! Workers that are killed, and workers that stand still.

use std::time::Duration;

use super::{CALL, single};
use crate::size;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_again_and_again_lose_nothing() {
    let (nats, mut house) = single(|_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()));
    let mut workers = [settings[0].start().await, settings[1].start().await];
    house
        .under_fire(size(250, 6_000), Duration::from_secs(2), async |house, strike| {
            let n = strike % 2;
            let fault = house.fault("worker", Some(n));
            workers[n].kill().await;
            house.mended(fault);
            workers[n] = settings[n].spawn();
        })
        .await;
    house.settle("worker SIGKILL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_stand_still_lose_nothing() {
    let (nats, mut house) = single(|_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()));
    let workers = [settings[0].start().await, settings[1].start().await];
    house
        .under_fire(size(200, 6_000), Duration::from_secs(1), async |house, strike| {
            let fault = house.fault("worker", Some(strike % 2));
            let stalled = &workers[strike % 2];
            stalled.pause();
            tokio::time::sleep(Duration::from_secs(if strike % 4 < 2 { 1 } else { 5 })).await;
            stalled.resume();
            house.mended(fault);
        })
        .await;
    house.settle("worker SIGSTOP, 1 s and 5 s").await;
}
