//! What lies in the streams.

use std::time::SystemTime;

use async_nats::HeaderMap;
use queue_worker::{broker::Record, names};

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    pub record: Record,
    pub stored: SystemTime,
    /// When a schedule wakes it, by the broker's clock.
    pub fires: Option<SystemTime>,
}

impl Stored {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.record.headers.get(name).map(|value| value.as_str())
    }

    /// How many clones lie between it and the first arrival.
    pub fn hop(&self) -> u64 {
        self.number(names::HOP)
    }

    pub fn attempts(&self) -> u32 {
        self.number(names::ATTEMPTS) as u32
    }

    fn number(&self, header: &str) -> u64 {
        self.header(header).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Whether it is a callback, and no call.
    pub fn is_callback(&self) -> bool {
        self.header(names::KIND) == Some("callback")
    }

    /// Where among the retries it lies: `at`, `due`, or a level.
    pub fn place(&self) -> &str {
        self.record.subject.split('.').nth(1).unwrap_or("")
    }

    /// What its schedule makes of it, at `now`.
    pub fn fired(mut self, now: SystemTime) -> Self {
        let target = self.header("Nats-Schedule-Target").unwrap().to_owned();
        let kept = self.record.headers.iter().filter(|(name, _)| !names::is_brokers(name.as_ref()));
        let kept = kept.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())));
        self.record.headers = kept.collect::<HeaderMap>();
        self.record.subject = target;
        Self { fires: None, stored: now, ..self }
    }
}
