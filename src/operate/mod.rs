//! Commands for operators.
//!
//! Calls: text, tasks, retry, message, config, observe, broker, flow, outbound, upkeep, admin, stan,
//! ingress, run.

mod alone;
pub mod doctor;
pub mod cli;
mod desk;
mod end;
mod out;
mod follow;
mod make;
mod dead_letters;
mod operations;
mod audit;
mod queue;
mod calls;
mod retries;
mod policy;
mod invoke;

pub use alone::{alone, refused};
pub use out::print;
