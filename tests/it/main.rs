//! The built worker against a real nats-server, a scripted gateway and a faulty network.
//!
//! Every test brings a broker, a gateway and workers of its own on ports of its own, so all of them run side
//! by side. A test that fails prints what its programs logged last.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a scenario that cannot go on has failed"
)]

#[allow(dead_code, reason = "the bars share the harness, and each uses its own part")]
mod support;

mod addresses;
mod adversary;
mod api;
mod audit;
mod azure_delayed_retries;
mod blocks;
mod broker;
mod callback_deaths;
mod callback_retries;
mod callback_rules;
mod callbacks;
mod cancels;
mod calls;
mod chaos;
mod charts;
mod clones;
mod commands;
mod community;
mod conservation;
mod contexts;
mod crashes;
mod dead_letters;
mod doctor;
mod drain;
mod events;
mod found;
mod gateways;
mod phantom_acks;
mod harness;
mod hosted;
mod hostile;
mod ids;
mod ingress;
mod layouts;
mod letters;
mod levels;
mod life;
mod logins;
mod lookup;
mod memory;
mod messages;
mod observe;
mod odd;
mod pace;
mod pages;
mod pauses;
mod purges;
mod parts;
mod poison;
mod producers;
mod queues;
mod reasons;
mod redelivery;
mod redrive;
mod rights;
mod secrets;
mod services;
mod shortages;
mod stan;
mod start;
mod streams;
mod target_settings;
mod targets;
#[cfg(feature = "otel")]
mod traces;
mod unsettled;
mod verdicts;
mod volume;
mod whereabouts;
mod wire;
