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
//! A message walks through the program once, forwards. Each step is a verb, and the modules below stand in the order in
//! which a message meets them. Facts and judgements are different types: an [`judge::Outcome`] is what happened, a
//! [`judge::Verdict`] is what to do about it, with nothing left to decide.

// What is set, and what it is connected to.
pub mod config;
pub mod names;
pub mod header;
pub mod advice;
pub mod connect;
pub mod broker;
pub mod clock;
pub mod pause;
pub mod aside;
pub mod files;
pub mod shortage;
pub mod heavy;
pub mod room;
pub mod jetstream;
pub mod streams;
pub mod serve;
pub mod service;
pub mod unserved;
pub mod denial;
pub mod drain;
pub mod signals;
pub mod supervisor;

// The way of a message.
pub mod stan;
pub mod permits;
pub mod strain;
pub mod consumer;
pub mod poison;
pub mod pull;
pub mod envelope;
pub mod timer;
pub mod parcel;
pub mod lease;
pub mod delivery;
pub mod standby;
pub mod worker;
pub mod decode;
pub mod lookup;
pub mod policy;
pub mod gate;
pub mod invoke;
pub mod judge;
pub mod duration;
pub mod backoff;
pub mod settle;
pub mod callback;

// What watches over it.
pub mod levels;
pub mod janitor;
pub mod ghosts;
pub mod telemetry;
pub mod trace;
pub mod metrics;
pub mod orphans;
pub mod depth;
pub mod admin;
pub mod doctor;
