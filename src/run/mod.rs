//! The process: its queues, its signals, its end.
//!
//! Calls: text, tasks, retry, message, config, observe, broker, flow, inbound, outbound, upkeep, admin, stan,
//! ingress, worker, operate, api.

pub mod process;
pub(crate) mod queue;
mod operations;
mod lanes;
mod pauses;
mod calls;
mod service;
pub(crate) mod unserved;
pub mod signals;
pub mod files;
mod container;
