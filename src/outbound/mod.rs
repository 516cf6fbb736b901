//! Calls by HTTP: a function's call, its annotations, its callback.
//!
//! Calls: text, tasks, retry, message, config, observe, flow.

pub mod invoke;
pub mod lookup;
pub mod callback;
