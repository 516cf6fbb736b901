//! The real loop on a broker and a gateway in memory, in virtual time.
//!
//! * `seeds`: under the faults that a seed decides. `SIM_SEEDS=<number>` runs more of them, `SIM_SEED=<seed>`
//!   one alone, with its story.
//! * `points`: small plans, one for each way that a message can go, with a failpoint at each step of a
//!   worker. `SIM_FAILPOINT=<plan>:<failpoint>` runs one alone, with its story.
//! * `bites`: mutants, workers with a bug, are found, each by the invariant that is there for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "all of this is a test, and may fail"
)]

// The world.
mod gzip;
mod stored;
mod consumer;
mod server;
mod shared;
mod client;
mod broker;
mod parked;
mod subscription;
mod gateway;
mod process;
mod rush;
mod world;

// What befalls it.
mod plan;
mod hostile;
mod schedule;
mod ways;
mod failpoint;
mod mutant;

// What has to hold.
mod account;
mod ledger;

mod bites;
mod broke;
mod crowd;
mod parallel;
mod points;
mod seeds;
