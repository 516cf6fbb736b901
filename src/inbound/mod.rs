//! Servers of HTTP: the address at which one listens, its connections, bounded whatever the clients do, and
//! the tokens that let clients in.
//!
//! Calls: tasks, flow.

pub mod listen;
pub mod connections;
pub mod tokens;
