//! Text as it is read and shown: durations, times, and what of foreign text may be shown.
//!
//! Calls: none. Pure.

pub mod duration;
pub mod line;
pub(crate) mod time;
