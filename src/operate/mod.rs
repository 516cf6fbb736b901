//! Commands for operators.
//!
//! Calls: text, tasks, retry, message, config, observe, broker, flow, outbound, upkeep, admin, stan, run.

pub mod doctor;
pub mod cli;
mod desk;
mod end;
mod out;
mod follow;
mod dead_letters;
mod operations;
