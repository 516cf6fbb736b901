//! The worker's log, metrics and traces.
//!
//! Calls: text, tasks, retry, message, config.

pub mod log;
pub mod metrics;
pub mod trace;
