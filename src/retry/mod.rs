//! What to do about what happened: when and how often a call is tried again.
//!
//! Calls: text. Pure.

pub mod policy;
pub mod backoff;
pub mod judge;
pub mod callback;
