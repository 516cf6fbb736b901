//! Commands for operators.
//!
//! Calls: text, tasks, retry, message, config, observe, broker, flow, outbound, upkeep, admin, stan, run.

pub mod doctor;
