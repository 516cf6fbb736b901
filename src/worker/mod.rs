//! The path of a message: pulled, called, judged, settled.
//!
//! Calls: text, tasks, retry, message, observe, broker, flow, outbound.

pub mod pull;
pub mod lease;
pub mod delivery;
pub mod process;
pub mod settle;
