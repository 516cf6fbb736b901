//! Who parked which retry and who called it, what was wrong with what was parked, and which letters came.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    super::script::{number, worker},
    checks,
    script::published,
};
use crate::support::{Call, DEAD, Nats, RETRIES, Stored};

/// Sees all that passes. The clones are the same witness.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// The worker that parked the message of this number after so many attempts.
    parked: BTreeMap<(usize, u32), usize>,
    /// How many retries a worker (the first place) parked and a worker (the second place) called.
    passed: [[usize; 2]; 2],
    /// How many calls a worker has made since it was started.
    calls: [usize; 2],
    /// How many retries were compressed to fit.
    compressed: usize,
    letters: Vec<Stored>,
    complaints: Vec<String>,
}

impl Witness {
    /// Sees what is parked and what dies from now on. It looks at messages as they pass: of a header that is
    /// stored the tests' client gives one value only.
    pub async fn of(nats: &Nats) -> Self {
        let [mut parked, mut dead] =
            [nats.watch(&format!("{RETRIES}.*.*.*.*")).await, nats.watch(&format!("{DEAD}.*")).await];
        let witness = Self::default();
        let (parking, dying) = (witness.clone(), witness.clone());
        tokio::spawn(async move {
            loop {
                parking.parked(&parked.next().await);
            }
        });
        tokio::spawn(async move {
            loop {
                dying.died(dead.next().await);
            }
        });
        witness
    }

    /// What is due at once waits for nobody, and a schedule that fires says again what was parked.
    fn parked(&self, stored: &Stored) {
        let waits = !stored.subject.starts_with(&format!("{RETRIES}.due."))
            && stored.header("Queue-Worker-Kind").is_none();
        let Some(number) = subject(stored).filter(|_| waits) else { return };
        let complaints = checks::of_parked(number, stored, &published(number));
        self.seen(|seen| {
            seen.complaints.extend(complaints);
            seen.compressed += usize::from(stored.header("Queue-Worker-Encoding").is_some());
            if let Some((attempts, worker)) = checks::history(stored).pop() {
                seen.parked.insert((number, attempts), worker);
            }
        });
    }

    /// A worker that asks whether there is a letter publishes none.
    fn died(&self, letter: Stored) {
        if subject(&letter).is_some() {
            self.seen(|seen| seen.letters.push(letter));
        }
    }

    /// A call has arrived.
    pub fn called(&self, call: &Call) {
        let (number, retry, caller) = (number(call), call.retry(), worker(call));
        self.seen(|seen| {
            seen.calls[caller] += 1;
            if let Some(parker) = seen.parked.remove(&(number, retry)) {
                seen.passed[parker][caller] += 1;
            }
        });
    }

    pub fn restarted(&self, worker: usize) {
        self.seen(|seen| seen.calls[worker] = 0);
    }

    /// How many calls the worker has made since it was started.
    pub fn calls(&self, worker: usize) -> usize {
        self.seen(|seen| seen.calls[worker])
    }

    /// How many retries that each worker parked wait now.
    pub fn waiting(&self) -> [usize; 2] {
        self.seen(|seen| {
            [0, 1].map(|worker| seen.parked.values().filter(|parker| **parker == worker).count())
        })
    }

    /// How many retries a worker (the first place) parked and a worker (the second place) called.
    pub fn passed(&self) -> [[usize; 2]; 2] {
        self.seen(|seen| seen.passed)
    }

    /// How many retries were compressed to fit.
    pub fn compressed(&self) -> usize {
        self.seen(|seen| seen.compressed)
    }

    pub fn letters(&self) -> Vec<Stored> {
        self.seen(|seen| seen.letters.clone())
    }

    /// What was wrong with what was parked.
    pub fn complaints(&self) -> Vec<String> {
        self.seen(|seen| seen.complaints.clone())
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

/// The number of the message whose call a stored message is about.
pub fn subject(stored: &Stored) -> Option<usize> {
    stored.header("Queue-Worker-Call-Id")?.strip_prefix("call-")?.parse().ok()
}
