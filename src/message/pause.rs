//! What is paused of a queue: its record, which commands write and workers read, and the names of the place
//! where messages of paused functions are held.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::message::{
    decode::FunctionName,
    letter::choice::moment,
    names::{Id, Names},
};

/// The most functions of a queue that may be paused at once: each has a consumer of its own.
pub const MOST: usize = 200;
/// The beginning of the names of consumers of what is held.
const CONSUMER: &str = "held-";

/// What is paused of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pauses {
    /// The whole of it, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Pause>,
    /// These functions, by name.
    pub functions: BTreeMap<String, Pause>,
}

/// Since when something is paused, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pause {
    /// Since when.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub since: Option<SystemTime>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where a purge keeps the queue paused: when that last said that it goes on.
    #[serde(with = "moment", skip_serializing_if = "Option::is_none")]
    pub purging: Option<SystemTime>,
}

impl Names {
    /// Where it stands what is paused: among the operations, under a name that none of them has.
    pub(crate) fn pauses(&self) -> String {
        self.operation("_pauses")
    }

    /// Where the clone `id.generation` of a call to `function` (a token) is held while that is paused.
    pub fn held(&self, function: &str, id: Id, generation: u64) -> String {
        format!("{}-retries.held.{function}.{id}.{generation}", self.queue)
    }

    /// The subjects of what is due of `function`.
    pub(crate) fn due_subjects_of(&self, function: &FunctionName) -> String {
        format!("{}-retries.due.{}.>", self.queue, function.token())
    }

    /// The subjects of what is held of `function`.
    pub fn held_subjects(&self, function: &FunctionName) -> String {
        format!("{}-retries.held.{}.>", self.queue, function.token())
    }

    /// The consumer of what is held of `function`: a name without dots. It has no `%` either: servers take
    /// the names of consumers for a part of a format, and send what cannot be read.
    pub fn held_consumer(function: &FunctionName) -> String {
        format!("{CONSUMER}{}", function.as_str().replace('.', "=").replace('%', "+"))
    }

    /// The function of such a consumer; `None` if it is none.
    pub fn held_by(consumer: &str) -> Option<FunctionName> {
        let token = consumer.strip_prefix(CONSUMER)?;
        let function = FunctionName::stored(token.replace('=', ".").replace('+', "%")).ok()?;
        (Self::held_consumer(&function) == consumer).then_some(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_of_what_is_held_is_read_back_as_its_function() {
        for name in ["f", "f.ns", "a-b_c.d.e", "a%20b.c"] {
            let function = FunctionName::stored(name.to_owned()).unwrap();
            let consumer = Names::held_consumer(&function);
            assert!(!consumer.contains(['.', '%', '*', '>', ' ']), "{consumer}");
            assert_eq!(Names::held_by(&consumer), Some(function));
        }
        for other in ["due", "l3", "held-", "held", "held-a b", "held-a%2E", "held-a.b", "held-a="] {
            assert_eq!(Names::held_by(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_is_read_whatever_a_later_version_adds() {
        let text = r#"{"functions":{"f":{"since":"2026-11-26T08:00:00Z","by":"me","more":1}},"else":{}}"#;
        let pauses: Pauses = serde_json::from_str(text).unwrap();
        assert!(pauses.queue.is_none() && pauses.functions["f"].since.is_some());
        let again: Pauses = serde_json::from_slice(&serde_json::to_vec(&pauses).unwrap()).unwrap();
        assert_eq!(again, pauses);
        assert_eq!(serde_json::from_str::<Pauses>("{}").unwrap(), Pauses::default());
    }
}
