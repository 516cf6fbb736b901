//! The tasks that the process lives on: who watches them, threads of their own for what may block, and how
//! they end.
//!
//! Calls: none.

pub mod supervisor;
pub mod offload;
pub mod heavy;
pub mod error_backoff;
pub mod drain;
