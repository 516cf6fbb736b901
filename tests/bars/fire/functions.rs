//! A gateway that resets connections in the middle of an answer, closes them, never answers, or is away. None
//! of it is a reason to make a call twice, so no fault is noted in the books.

use std::time::Duration;

use tokio::time::sleep;

use super::{CALL, script::Mood, single};
use crate::size;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_breaks_its_answers_off_costs_no_message_and_no_call() {
    const MOODS: [Mood; 4] = [Mood::TornBody, Mood::TornHead, Mood::HangsUp, Mood::Silent];
    let (nats, mut house) = single(|_| CALL).await;
    let (first, second) = (house.worker(0, &nats.url()), house.worker(1, &nats.url()));
    let _workers = [first.start().await, second.start().await];
    house
        .under_fire(size(250, 6_000), Duration::from_secs(1), async |house, strike| {
            match MOODS.get(strike % (MOODS.len() + 1)) {
                Some(mood) => {
                    house.feel(*mood);
                    sleep(Duration::from_secs(1)).await;
                    house.feel(Mood::Well);
                }
                None => {
                    house.gateway.close().await;
                    sleep(Duration::from_secs(1)).await;
                    house.gateway.open().await;
                }
            }
        })
        .await;
    let verdict =
        house.settle("gateway resets in mid-body and mid-head, hangs up, never answers, is away").await;
    assert_eq!(verdict.repeated, 0);
}
