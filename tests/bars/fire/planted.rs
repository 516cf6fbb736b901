//! The books find what is planted in real streams: else a clean verdict would say nothing.

use std::time::Duration;

use async_nats::HeaderMap;

use super::single;
use crate::support::{QUEUE, RETRIES};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_or_doubled_or_goes_astray_is_found() {
    const REMOVED: usize = 4;
    const DOUBLED: usize = 6;
    let (nats, mut house) = single(|_| Duration::ZERO).await;
    let queue = nats.make_queue().await;
    for number in house.announce(12) {
        assert!(house.publish_one(number, house.invocation(number)).await);
    }
    queue.delete_message(REMOVED as u64 + 1).await.unwrap();
    nats.publish(&house.invocation(DOUBLED)).await;
    let _worker = house.worker(0, &nats.url()).start().await;
    // No consumer asks for this subject.
    nats.publish_raw(&format!("{RETRIES}.nowhere.f.1.1"), HeaderMap::new(), "").await;
    let verdict = house.judge("a loss, a repeat and an orphan, planted").await;
    assert_eq!((&verdict.lost[..], &verdict.unexplained[..]), (&[REMOVED][..], &[DOUBLED][..]));
    assert_eq!(verdict.orphans, u64::from(nats.schedules()), "of {QUEUE} and {RETRIES}");
}
