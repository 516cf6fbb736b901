//! Real parts under fire: each scenario does one thing to them while messages flow, mends it, and has the
//! books judged.

mod broker;
mod chaos;
mod cluster;
mod disk;
mod functions;
mod house;
mod inputs;
mod network;
mod planted;
mod script;
mod soak;
mod takeovers;
mod versions;
mod workers;

use std::time::Duration;

use house::House;

use crate::support::Nats;

/// How long a call takes, where its length is not the point.
const CALL: Duration = Duration::from_millis(200);

/// A broker's address behind which the nth worker finds it.
fn behind(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// A single broker and the house beside it.
async fn single(pace: script::Pace) -> (Nats, House) {
    let nats = Nats::start().await;
    let house = House::open(nats.connect().await, pace).await;
    (nats, house)
}
