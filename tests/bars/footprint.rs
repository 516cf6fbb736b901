//! How little an idle worker needs, and how soon it is there.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    bar, median,
    support::{Answer, Gateway, Nats, Worker},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_ready_at_once_and_needs_next_to_nothing() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let settings = Worker::of(&nats, &gateway);
    let (mut starts, mut sizes) = (Vec::new(), Vec::new());
    // The first start makes the streams and the consumers; none is left out.
    for _ in 0..5 {
        let start = Instant::now();
        let worker = settings.spawn();
        while worker.readyz().await.is_none_or(|(status, _)| status != 200) {
            sleep(Duration::from_millis(1)).await;
        }
        starts.push(start.elapsed().as_secs_f64() * 1e3);
        // What it needs when nothing happens is seen when nothing has happened for a while.
        sleep(Duration::from_secs(2)).await;
        #[allow(clippy::cast_precision_loss, reason = "no worker has so many bytes")]
        sizes.push(worker.rss() as f64 / f64::from(1 << 20));
    }
    println!("     from the start to ready, in ms: {starts:.1?}; resident when idle, in MiB: {sizes:.2?}");
    bar("from the start to ready, in ms, median", median(&mut starts), 50.0);
    bar("resident memory when idle, in MiB, median", median(&mut sizes), 10.0);
}

#[test]
fn the_program_is_small() {
    let size = fs::metadata(Worker::program()).unwrap().len();
    #[allow(clippy::cast_precision_loss, reason = "no program has so many bytes")]
    let size = size as f64 / f64::from(1 << 20);
    bar("the program's file, built as it is shipped, in MiB", size, 12.0);
}
