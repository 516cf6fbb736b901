//! NATS: the seam to it, JetStream's API, consumers, the connection, the set-up of streams, the audit, and
//! what is known of servers.
//!
//! Calls: text, tasks, retry, message, config, observe.

pub mod seam;
pub mod pulled;
pub mod connect;
pub mod clock;
pub mod known_issues;
pub mod jetstream;
pub mod streams;
pub mod consumer;
pub mod poison;
pub mod standby;
pub mod walk;
pub mod sweep;
pub mod operations;
mod ack_subject;
pub mod audit;
pub mod pauses;
pub mod cancels;
pub mod levels;
pub(crate) mod timer_choice;
pub mod version;
