//! # The life of a message
//!
//! ```text
//!  JetStream ─pull─▶ Delivery ─decode─▶ Invocation ─lookup, policy─▶ RetryPolicy
//!                       │                   │
//!          settled before? ack         gate: "not now"? park it as it is
//!                                           ▼
//!                                        invoke ─▶ Outcome
//!                                                    ▼
//!   ack ◀─┬─ park a retry ◀────────────── settle ◀─ Verdict ◀─judge
//!         └─ callback ◀─ dead-letter ◀──────┘
//! ```
//!
//! A parked callback comes the same way, and is posted where an invocation is called.
//!
//! A message walks through the program once, forwards. Facts and judgements are different types: an
//! [`Outcome`](retry::judge::Outcome) is what happened, a [`Verdict`](retry::judge::Verdict) is what to do
//! about it, with nothing left to decide. The rooms below stand in the order in which they may call each
//! other: each calls only those before it.

pub mod text;
pub mod tasks;
pub mod retry;
pub mod message;
pub mod config;
pub mod observe;
pub mod broker;
pub mod flow;
pub mod outbound;
pub mod upkeep;
pub mod admin;
pub mod stan;
pub mod worker;
pub mod run;
pub mod operate;
