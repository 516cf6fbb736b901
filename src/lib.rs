//! # The life of a message
//!
//! ```text
//!  pull ─▶ Delivery ─open─▶ Invocation ─policy─▶ may it start? ─▶ call ─▶ Outcome
//!                                                                           │ judge
//!                                 Settled ◀─settle─ Disposition ◀─ Verdict ◀┘
//! ```
//!
//! A parked callback comes the same way, and is posted where an invocation is called.
//!
//! A message walks through the program once, forwards. Facts and decisions have different types: an
//! [`Outcome`](retry::judge::Outcome) is a fact, and a
//! [`Disposition`](retry::disposition::Disposition) leaves nothing to decide. The rooms below stand in the
//! order in which they may call each other: each calls only those before it. `docs/architecture.md` has the
//! map.

pub mod text;
pub mod tasks;
pub mod retry;
pub mod message;
pub mod config;
pub mod observe;
pub mod broker;
pub mod flow;
pub mod inbound;
pub mod outbound;
pub mod upkeep;
pub mod admin;
pub mod stan;
pub mod ingress;
pub mod worker;
pub mod operate;
pub mod api;
pub mod run;
