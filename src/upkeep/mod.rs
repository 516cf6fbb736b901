//! What looks after a queue beside the path: promoters of retries, the janitor, phantom acknowledgements,
//! depth, orphans, operations, calls, `nats micro`.
//!
//! Calls: text, tasks, message, config, observe, broker, flow.

pub mod levels;
pub mod janitor;
pub mod phantom_acks;
pub mod depth;
pub mod orphans;
pub mod operations;
pub(crate) mod pauses;
pub mod calls;
pub mod service;
