//! What commands and workers tell each other of calls: which run, over NATS and stored nowhere; and which are
//! cancelled, in a stream.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::message::{
    envelope::Envelope,
    letter::{Attempt, choice::moment},
    names::{Id, Names},
    successor::Message,
};

/// The question which calls of an id run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The call id.
    pub call_id: String,
}

/// Calls that are not to run: those of this id that arrived before this was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// The call id.
    pub call_id: String,
    /// Who wants that.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Cancel {
    /// What is said about a call that ends so.
    pub fn why(&self) -> String {
        why(&self.by, self.reason.as_deref())
    }
}

/// What is said about a call that somebody cancelled, for this reason.
pub fn why(by: &str, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("cancelled by {by}{reason}")
}

/// The question whether a worker has heard of all that was cancelled so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The last sequence in the stream of what was cancelled.
    pub sequence: u64,
}

/// What a worker says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// Which worker it is.
    pub worker: String,
    /// The calls that it has.
    pub calls: Vec<Running>,
}

/// A call that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its function.
    pub function: String,
    /// `<stream>:<id>` of its message.
    pub original_id: String,
    /// The attempts before this delivery.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When it first arrived.
    #[serde(default, with = "moment")]
    pub first_seen: Option<SystemTime>,
    /// When this worker began with it.
    #[serde(default, with = "moment")]
    pub began: Option<SystemTime>,
    /// How often it was sent round again.
    #[serde(default)]
    pub redrives: Option<String>,
}

/// A call that runs here, as it was when it began. Hardly anybody asks about one, so it is written out for
/// those who do.
#[derive(Debug)]
pub struct InHand {
    function: Option<String>,
    origin: String,
    id: Id,
    first_seen: SystemTime,
    began: SystemTime,
    redrives: Option<String>,
    history: Vec<String>,
    times: Vec<(u32, SystemTime)>,
}

impl InHand {
    /// The call that a message asks for, from now on.
    pub fn new(message: &Message, now: SystemTime) -> Self {
        let (function, past) = (message.function_name.clone(), &message.envelope);
        Self {
            function,
            origin: past.origin.clone(),
            id: past.id,
            first_seen: past.first_seen,
            began: now,
            redrives: past.redrives.clone(),
            history: past.history.clone(),
            times: past.times.clone(),
        }
    }

    /// What is told of it.
    pub fn told(&self) -> Running {
        Running {
            function: self.function.clone().unwrap_or_default(),
            original_id: self.id.in_stream(&self.origin),
            attempts: Attempt::of(&self.history, &self.times),
            first_seen: Some(self.first_seen),
            began: Some(self.began),
            redrives: self.redrives.clone(),
        }
    }
}

/// The call id of an invocation: its `own`, or one made of its identity, the same over all retries.
pub fn id(own: Option<&str>, past: &Envelope) -> String {
    own.map_or_else(|| made_id(&past.origin, past.id), str::to_owned)
}

fn made_id(origin: &str, id: Id) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, id.in_stream(origin).as_bytes()).to_string()
}

impl Names {
    /// Where workers are asked for the calls that run.
    pub fn running_calls(&self) -> String {
        format!("{}-calls.running", self.queue)
    }

    /// Where workers are told that something was cancelled.
    pub fn cancelled_calls(&self) -> String {
        format!("{}-calls.cancelled", self.queue)
    }

    /// The stream of what was cancelled.
    pub fn cancels(&self) -> String {
        format!("{}-cancels", Self::usual_stream(&self.queue))
    }

    /// All subjects of that.
    pub fn cancels_subjects(&self) -> String {
        format!("{}-cancels.>", self.queue)
    }

    /// Where it is stored.
    pub fn cancel(&self) -> String {
        format!("{}-cancels.call", self.queue)
    }

    /// Wherever a clone of an invocation lies.
    pub fn clones_of_any(&self, id: Id) -> String {
        self.clones("*", id)
    }
}
