//! Commands for operators.
//!
//! Calls: text, tasks, retry, message, config, observe, broker, flow, outbound, upkeep, admin, stan,
//! ingress.

mod alone;
pub mod doctor;
pub mod cli;
pub(crate) mod desk;
pub(crate) mod end;
mod out;
mod follow;
pub(crate) mod make;
pub(crate) mod dead_letters;
pub(crate) mod operations;
pub(crate) mod audit;
pub(crate) mod queue;
pub(crate) mod calls;
pub(crate) mod retries;
pub(crate) mod policy;
mod invoke;

pub use alone::{alone, refused};
pub use out::print;
