//! Three brokers, and whichever leads is killed.

use std::time::Duration;

use super::{CALL, House};
use crate::{
    size,
    support::{Cluster, QUEUE, RETRIES},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_leader_is_killed_again_and_again_loses_nothing() {
    let mut cluster = Cluster::start().await;
    let mut house = House::open(cluster.connect().await, |_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &cluster.url()).set("nats_stream_replicas", 3));
    let _workers = [settings[0].start().await, settings[1].start().await];
    let js = house.js.clone();
    house
        .under_fire(size(200, 6_000), Duration::from_secs(2), async |house, strike| {
            let stream = [QUEUE, RETRIES][strike % 2];
            let leader = cluster.leader(&js, stream).await;
            let fault = house.fault("leader", None);
            cluster.kill(leader).await;
            let next = cluster.leader(&js, stream).await;
            house.mended(fault);
            assert_ne!(leader, next);
            // One at a time: with two away there is no majority, and nothing goes on until one is back.
            cluster.nodes[leader].boot().await;
            for name in [QUEUE, RETRIES] {
                cluster.replicated(&js, name).await;
            }
        })
        .await;
    house.settle("cluster of three, leader SIGKILL").await;
}
