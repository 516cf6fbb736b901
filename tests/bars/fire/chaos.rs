//! Workers, the broker and the gateway die again and again, and the books balance.

use std::time::Duration;

use super::{CALL, single};
use crate::size;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_ends_twice_whatever_is_killed() {
    let (mut nats, mut house) = single(|_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()));
    let mut workers = [settings[0].start().await, settings[1].start().await];
    house
        .under_fire(size(400, 6_000), Duration::from_secs(2), async |house, strike| {
            let n = strike % 2;
            let fault = house.fault("worker killed", Some(n));
            workers[n].kill().await;
            house.mended(fault);
            workers[n] = settings[n].spawn();
            match strike {
                1 => {
                    let fault = house.fault("broker killed", None);
                    nats.restart().await;
                    house.mended(fault);
                }
                // No call is repeated for this.
                2 => house.gateway.close().await,
                3 => house.gateway.open().await,
                _ => {}
            }
        })
        .await;
    let verdict = house.settle("workers, broker and gateway killed in turn").await;
    assert_eq!(verdict.interrupted, 0);
}
