//! What lies in the streams.

use std::time::SystemTime;

use async_nats::HeaderMap;
use queue_worker::{
    message::{names, record::Record},
    retry::interruption,
};

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

    /// What a worker wrote about it. In the queue none did, whatever its headers say.
    pub fn told(&self, name: &str) -> Option<&str> {
        let by_worker = ["-retries", "-dead"].iter().any(|end| self.record.stream.ends_with(end));
        self.header(name).filter(|_| by_worker)
    }

    /// How many clones lie between it and the first arrival.
    pub fn generation(&self) -> u64 {
        // As a worker reads it: its subject says it, too.
        let by_subject = names::Names::generation_of(&self.record.subject)
            .filter(|_| self.record.stream.ends_with("-retries"));
        self.number(names::HOP).max(by_subject.unwrap_or(0))
    }

    pub fn attempts(&self) -> u32 {
        self.number(names::ATTEMPTS) as u32
    }

    fn number(&self, header: &str) -> u64 {
        self.told(header).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Whether it may be what kills its workers.
    pub fn is_suspect(&self) -> bool {
        interruption::is_suspect(u32::try_from(self.number(names::INTERRUPTIONS)).unwrap_or(u32::MAX))
    }

    /// Whether it is a callback, and no call.
    pub fn is_callback(&self) -> bool {
        self.told(names::KIND) == Some("callback")
    }

    /// Where among the retries it lies: `at`, `due`, or a level.
    pub fn place(&self) -> &str {
        self.record.subject.split('.').nth(1).unwrap_or("")
    }

    /// What its schedule makes of it, at `now`.
    pub fn fired(mut self, now: SystemTime) -> Self {
        let target = self.header("Nats-Schedule-Target").unwrap().to_owned();
        self.record.headers = self.own_headers();
        self.record.subject = target;
        Self { fires: None, stored: now, ..self }
    }

    /// A header of the broker's that no worker may write on it.
    pub fn strange_header(&self) -> Option<String> {
        let parks =
            |name: &str| ["Nats-Schedule", "Nats-Schedule-Target"].contains(&name) && self.place() == "at";
        let fired = self.place() == "due" && self.header("Nats-Scheduler").is_some();
        let fires = |name: &str| {
            fired
                && (name.starts_with("Nats-Schedule")
                    || name.starts_with("Nats-Expected-Last-Subject-Sequence"))
        };
        let mut names = self.record.headers.iter().map(|(name, _)| name.to_string());
        names.find(|name| names::is_brokers(name) && !parks(name) && !fires(name))
    }

    /// Its headers, less the broker's own.
    pub fn own_headers(&self) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for (name, values) in self.record.headers.iter().filter(|(name, _)| !names::is_brokers(name.as_ref()))
        {
            values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
        }
        kept
    }
}
