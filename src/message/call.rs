//! What commands and workers tell each other of calls: which run, over NATS and stored nowhere; and which are
//! cancelled, in a stream.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    message::{
        envelope::{Envelope, VALUE},
        header,
        letter::{Attempt, choice::moment},
        names::{self, Id, Names},
        successor::Message,
    },
    text::line::{all_bytes, ascii},
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
    function: Option<Arc<str>>,
    origin: Arc<str>,
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
            function: self.function.as_deref().unwrap_or_default().to_owned(),
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
    own.map_or_else(|| past.made_id(), str::to_owned)
}

/// A call id as a header of ours has it: callers choose ids, and a header has so many bytes, of ASCII alone.
pub fn written(call_id: &str) -> Cow<'_, str> {
    let is_plain = call_id.len() <= VALUE && all_bytes(call_id, |byte| byte.is_ascii_graphic());
    if is_plain { call_id.into() } else { ascii(call_id, VALUE).into() }
}

/// Whether an id that a header tells is this one. People may have it from a log, as the caller wrote it, or
/// from a list.
pub(crate) fn is_id(told: &str, wanted: &str) -> bool {
    told == wanted || told == written(wanted)
}

/// Whether a clone or a letter with these headers is of a call with this id.
pub(crate) fn is_of(headers: &HeaderMap, call_id: &str) -> bool {
    header::said(headers, names::CALL_ID).is_some_and(|told| is_id(told, call_id))
}

impl Envelope {
    /// The call id of an invocation that has none of its own.
    pub(crate) fn made_id(&self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.original_id().as_bytes()).to_string()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_as_the_caller_wrote_it_and_as_a_header_has_it() {
        let long = "x".repeat(300);
        for (id, header) in [
            ("order-4711", "order-4711"),
            ("a b", "a b"),
            ("a\tb ", "a b"),
            ("\u{fc}", "%C3%BC"),
            (&long, &long[..VALUE]),
        ] {
            assert_eq!(written(id), header);
            assert_eq!(written(header), header, "it is written once");
            let mut headers = HeaderMap::new();
            header::put(&mut headers, names::CALL_ID, header);
            assert!(is_of(&headers, id) && is_of(&headers, header), "{id:?}");
            assert!(!is_of(&headers, "other") && !is_of(&HeaderMap::new(), id));
        }
    }
}
