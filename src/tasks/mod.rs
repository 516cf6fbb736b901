//! The tasks of the process: their supervisor, threads for work that may block, and their end.
//!
//! Calls: none.

pub mod supervisor;
pub mod offload;
pub(crate) mod heavy;
pub(crate) mod error_backoff;
pub mod drain;
