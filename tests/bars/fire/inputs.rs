//! Messages of each form, while workers and the broker are killed and the target is away.

use std::time::Duration;

use tokio::time::sleep;

use super::{House, script::Input};
use crate::{bar, full, size, support::Nats};

/// Short, so that many messages do not take long.
const CALL: Duration = Duration::from_millis(50);

async fn check(input: Input) {
    let mut nats = Nats::start().await;
    let mut house = House::of_input(nats.connect().await, input, |_| CALL).await;
    let settings = [0, 1].map(|n| house.worker(n, &nats.url()));
    let mut workers = [settings[0].start().await, settings[1].start().await];
    let every = Duration::from_secs(size(2, 5));
    house
        .under_fire(size(240, 20_000), every, async |house, strike| match strike % 3 {
            0 => {
                let n = strike / 3 % 2;
                let fault = house.fault("worker killed", Some(n));
                workers[n].kill().await;
                house.mended(fault);
                workers[n] = settings[n].spawn();
            }
            1 => {
                let fault = house.fault("broker killed", None);
                nats.restart().await;
                house.mended(fault);
            }
            // No call is repeated for this.
            _ => {
                house.gateway.close().await;
                sleep(Duration::from_secs(size(1, 10))).await;
                house.gateway.open().await;
            }
        })
        .await;
    let what = format!("{input:?}: worker killed, broker killed, target away");
    let verdict = house.settle(&what).await;
    assert!(!full() || verdict.accepted >= 19_000, "{} accepted", verdict.accepted);
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let (repeated, in_flight) = (verdict.repeated as f64, verdict.in_flight as f64);
    bar(&format!("{what}: repeated calls, of those in flight"), repeated, in_flight + 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_of_messages_as_they_are() {
    check(Input::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_of_events() {
    check(Input::CloudEvents).await;
}
