//! Who may start a call: permits, quarantine, and less of both where the machine is short of something; and
//! which calls run.
//!
//! Calls: none.

pub mod permits;
pub mod gate;
pub mod strain;
pub mod shortage;
pub mod memory;
pub mod calls;
