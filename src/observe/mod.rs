//! What the worker says about itself: log, metrics, traces.
//!
//! Calls: text, tasks, retry, message, config.

pub mod log;
pub mod metrics;
pub mod trace;
