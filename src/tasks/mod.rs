//! The tasks of the process: their supervisor, threads for work that may block, files that
//! are read anew, and their end.
//!
//! Calls: none.

pub mod supervisor;
pub mod offload;
pub(crate) mod heavy;
pub mod renewed;
pub(crate) mod error_backoff;
pub mod drain;
