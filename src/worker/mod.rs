//! The path of a message: pulled, called, judged, settled.
//!
//! Calls: text, tasks, retry, message, observe, broker, flow, outbound.

pub mod pull;
pub mod process;
pub mod delivery;
