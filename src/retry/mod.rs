//! Decides what to do about what happened: when and how often a call is tried again, and what becomes of its
//! message.
//!
//! Calls: text. Pure.

pub mod policy;
pub(crate) mod plan;
pub mod backoff;
pub mod interruption;
pub mod judge;
pub mod callback;
pub mod disposition;
