//! Servers of HTTP: the address at which one listens, and its connections, bounded whatever the clients do.
//!
//! Calls: flow.

pub mod listen;
pub mod connections;
