//! What is paused: the record of it in JetStream, and what this process knows of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::watch;

use crate::{
    broker::{
        jetstream::{ApiError, JetStream, call, if_stream},
        seam::{Broker, BrokerError},
    },
    message::{
        decode::FunctionName,
        names::Names,
        pause::{Pause, Pauses},
    },
};

/// What is paused of a queue, as this process knows it. Cheap to clone; the clones agree.
#[derive(Debug, Clone, Default)]
pub struct Paused(watch::Sender<Arc<Known>>);

/// The latest that is known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Known {
    /// What is paused.
    pub pauses: Pauses,
    /// How much is held of each function that has a place for it, paused or not any more.
    pub held: BTreeMap<FunctionName, u64>,
}

impl Paused {
    /// What is known.
    pub fn known(&self) -> Arc<Known> {
        self.0.borrow().clone()
    }

    /// Follows what is known.
    pub fn follow(&self) -> watch::Receiver<Arc<Known>> {
        self.0.subscribe()
    }

    /// Whether calls of this function, of a queue that is not paused itself, are to be held.
    pub fn holds(&self, function: &FunctionName) -> bool {
        let known = self.0.borrow();
        !known.pauses.functions.is_empty() && known.pauses.functions.contains_key(function.as_str())
    }

    /// Learns what is paused. Returns what was before, where that is something else.
    pub fn learn(&self, pauses: Pauses) -> Option<Pauses> {
        let mut before = None;
        self.0.send_if_modified(|known| {
            if known.pauses != pauses {
                let held = known.held.clone();
                before = Some(std::mem::replace(known, Arc::new(Known { pauses, held })).pauses.clone());
            }
            before.is_some()
        });
        before
    }

    /// Learns how much is held.
    pub fn learn_held(&self, held: BTreeMap<FunctionName, u64>) {
        self.0.send_if_modified(|known| {
            let news = known.held != held;
            if news {
                *known = Arc::new(Known { pauses: known.pauses.clone(), held });
            }
            news
        });
    }

    /// How much is held in all.
    pub fn held(&self) -> u64 {
        self.0.borrow().held.values().fold(0, |sum, held| sum.saturating_add(*held))
    }
}

impl Known {
    /// The functions that are paused no more, and of which something is held that is to be called.
    pub fn released(&self) -> BTreeSet<FunctionName> {
        let released = |(function, held): (&FunctionName, &u64)| {
            (*held > 0 && !self.pauses.functions.contains_key(function.as_str())).then(|| function.clone())
        };
        self.held.iter().filter_map(released).collect()
    }
}

/// The record of what is paused of a queue.
#[derive(Debug, Clone)]
pub struct Record {
    jetstream: JetStream,
    names: Names,
}

impl Record {
    /// That of this queue.
    pub(crate) fn new(jetstream: &JetStream, names: &Names) -> Self {
        Self { jetstream: jetstream.clone(), names: names.clone() }
    }

    /// What it says, and the sequence that it lies under, which whoever writes the next has to know. Where
    /// there is none, nothing is paused.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn read(&self) -> Result<(Pauses, u64), ApiError> {
        let found = self.jetstream.last_stored(&self.names.operations, &self.names.pauses()).await;
        let Some(stored) = if_stream(found)?.flatten() else { return Ok((Pauses::default(), 0)) };
        // What nobody can read pauses nothing: else a queue could not be served, nor anything be resumed.
        let pauses = serde_json::from_slice(&stored.payload).unwrap_or_default();
        Ok((pauses, stored.sequence))
    }

    /// The subject that whoever reads it publishes to.
    pub(crate) fn right(&self) -> String {
        self.jetstream.api_subject(&call::message(&self.names.operations))
    }

    /// Writes the next one, unless somebody else did. Says whether it did.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub(crate) async fn write(&self, pauses: &Pauses, revision: u64) -> Result<bool, BrokerError> {
        // Strings are all there is to write, and memory to write to does not fail.
        let payload = serde_json::to_vec(pauses).unwrap_or_default().into();
        let subject = self.names.pauses();
        let written =
            self.jetstream.replace(&self.names.operations, &subject, revision, None, payload).await?;
        Ok(written.is_some())
    }

    /// How much is held of each function that has a place for it.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub(crate) async fn held(&self) -> Result<BTreeMap<FunctionName, u64>, ApiError> {
        let list = if_stream(self.jetstream.consumers(&self.names.retries).await)?;
        let Some(list) = list else { return Ok(BTreeMap::new()) };
        let held =
            list.consumers.iter().filter_map(|info| Some((Names::held_by(&info.name)?, info.unsettled())));
        let silent = list.missing.iter().filter_map(|name| Some((Names::held_by(name)?, 0)));
        // One that is only named did not answer in time.
        Ok(silent.chain(held).collect())
    }

    /// The broker's time.
    pub fn now(&self) -> SystemTime {
        self.jetstream.now()
    }
}

/// What changed from one record to the next: what is named, what became of it, and who paused it.
pub fn changes<'a>(before: &'a Pauses, after: &'a Pauses) -> Vec<(Option<&'a str>, Option<&'a Pause>)> {
    let mut changes = Vec::new();
    if before.queue.is_some() != after.queue.is_some() {
        changes.push((None, after.queue.as_ref()));
    }
    let names: BTreeSet<_> = before.functions.keys().chain(after.functions.keys()).collect();
    for name in names {
        let now = after.functions.get(name);
        if before.functions.contains_key(name) != now.is_some() {
            changes.push((Some(name.as_str()), now));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(functions: &[&str]) -> Pauses {
        let functions = functions.iter().map(|name| ((*name).to_owned(), Pause::default())).collect();
        Pauses { queue: None, functions }
    }

    fn name(name: &str) -> FunctionName {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_held_is_released_when_its_function_is_paused_no_more() {
        let paused = Paused::default();
        assert_eq!(paused.learn(pauses(&["f", "g"])), Some(Pauses::default()));
        paused.learn_held([(name("f"), 3), (name("g"), 2), (name("h"), 0)].into());
        assert!(paused.holds(&name("f")) && !paused.holds(&name("h")));
        assert_eq!((paused.known().released().len(), paused.held()), (0, 5));
        assert_eq!(paused.learn(pauses(&["g"])), Some(pauses(&["f", "g"])));
        assert_eq!(paused.known().released(), [name("f")].into());
        assert_eq!(paused.learn(pauses(&["g"])), None);
    }

    #[test]
    fn what_changed_is_told_once_for_each_name() {
        let whole = Pauses { queue: Some(Pause::default()), ..pauses(&["g"]) };
        let told = |before: &Pauses, after: &Pauses| {
            changes(before, after)
                .into_iter()
                .map(|(name, pause)| (name.map(str::to_owned), pause.is_some()))
                .collect::<Vec<_>>()
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(told(&pauses(&["f"]), &whole), [(None, true), (name("f"), false), (name("g"), true)]);
        assert_eq!(told(&whole, &whole), []);
    }
}
