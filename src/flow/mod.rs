//! Who may start a call: permits, quarantine, and less of both where the machine is short of something.
//!
//! Calls: none.

pub mod permits;
pub mod gate;
pub mod strain;
pub mod shortage;
pub mod memory;
