//! The records of the audit: what became of a call, that one was parked, and what an operator did. No bodies,
//! and no values of headers.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::message::{
    envelope,
    letter::{Attempt, choice::moment},
    names::Names,
    successor::Message,
};

/// How a call ended that succeeded.
pub const COMPLETED: &str = "completed";

/// The action of an operation that came to its end.
pub const ENDED: &str = "ended";

/// A record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// A call has ended.
    Call(Box<Call>),
    /// A call is parked for the first time: whoever asks for it finds its message by this.
    Parked(Parked),
    /// Somebody did something.
    Action(Box<Action>),
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// When it ended.
    #[serde(default, with = "moment")]
    pub at: Option<SystemTime>,
    /// Its queue.
    pub queue: String,
    /// Its function, if its message names one.
    pub function: Option<String>,
    /// Its call id, if its message could be read.
    pub call_id: Option<String>,
    /// `<stream>:<id>` of its message.
    pub original_id: String,
    /// `completed`, or the cause for which it was given up.
    pub outcome: String,
    /// Its last attempts, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// How many attempts were made.
    #[serde(default)]
    pub attempts_made: u32,
    /// When it first arrived.
    #[serde(default, with = "moment")]
    pub first_seen: Option<SystemTime>,
    /// From its arrival to its first attempt, where that is known.
    #[serde(default)]
    pub queue_wait_milliseconds: Option<u64>,
    /// From its arrival, or its last redrive, to its end.
    #[serde(default)]
    pub milliseconds: u64,
    /// The worker that had it at last.
    #[serde(default)]
    pub worker: String,
    /// How often it was sent round again.
    #[serde(default, deserialize_with = "redrives")]
    pub redrives: u64,
}

/// A call that is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// When that was.
    #[serde(default, with = "moment")]
    pub at: Option<SystemTime>,
    /// Its function.
    pub function: Option<String>,
    /// Its call id.
    pub call_id: Option<String>,
    /// `<stream>:<id>` of its message.
    pub original_id: String,
}

/// What somebody did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Action {
    /// When.
    #[serde(with = "moment")]
    pub at: Option<SystemTime>,
    /// To which queue.
    pub queue: String,
    /// What: the words of the command; `ended` of an operation that did.
    pub action: String,
    /// Who.
    pub by: String,
    /// To which messages, as far as a filter says that.
    pub filter: Option<Value>,
    /// To how many.
    pub count: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// The operation that does it.
    pub operation: Option<String>,
    /// How that ended.
    pub state: Option<String>,
    /// The call that it was done to.
    pub call_id: Option<String>,
}

/// Reads how often a call was sent round again: a number, or as earlier versions wrote it the header's text,
/// or nothing.
fn redrives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let read = Value::deserialize(deserializer)?;
    Ok(read.as_u64().unwrap_or_else(|| envelope::redrives(read.as_str())))
}

impl Call {
    /// The end of the call that a message asks for: so, at this time, in the hands of this worker.
    pub(crate) fn of(message: &Message, queue: &str, outcome: &str, worker: &str, now: SystemTime) -> Self {
        let told = &message.envelope;
        let attempts = Attempt::all(told);
        let first = attempts.first().filter(|attempt| attempt.n == 1).and_then(|attempt| attempt.at);
        Self {
            at: Some(now),
            queue: queue.to_owned(),
            function: message.function_name.as_deref().map(str::to_owned),
            call_id: message.call_id.as_deref().map(str::to_owned),
            original_id: told.original_id(),
            outcome: outcome.to_owned(),
            attempts_made: told.attempts,
            first_seen: Some(told.first_seen),
            queue_wait_milliseconds: first.map(|first| between(told.since(), first)),
            milliseconds: between(told.since(), now),
            worker: worker.to_owned(),
            redrives: envelope::redrives(told.redrives.as_deref()),
            attempts,
        }
    }
}

fn between(one: SystemTime, other: SystemTime) -> u64 {
    u64::try_from(other.duration_since(one).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// Where it lies.
    pub fn subject(&self, names: &Names) -> String {
        let of = |call_id: Option<&str>, id: &str| names.audit_of(call_id.unwrap_or(id));
        match self {
            Self::Call(call) => of(call.call_id.as_deref(), &call.original_id),
            Self::Parked(parked) => of(parked.call_id.as_deref(), &parked.original_id),
            Self::Action(_) => names.audit_actions(),
        }
    }

    /// The call id that it tells of.
    pub fn call_id(&self) -> Option<&str> {
        match self {
            Self::Call(call) => call.call_id.as_deref(),
            Self::Parked(parked) => parked.call_id.as_deref(),
            Self::Action(action) => action.call_id.as_deref(),
        }
    }

    /// When it was written.
    pub fn at(&self) -> Option<SystemTime> {
        match self {
            Self::Call(call) => call.at,
            Self::Parked(parked) => parked.at,
            Self::Action(action) => action.at,
        }
    }
}

impl Names {
    /// All subjects of the audit.
    pub fn audit_subjects(&self) -> String {
        format!("{}-audit.>", self.queue)
    }

    /// Where the records of a call lie, and those of the others whose ids come to the same: each subject
    /// costs the broker memory, so that there are no more than 65,536, the operators' included.
    pub fn audit_of(&self, call_id: &str) -> String {
        format!("{}-audit.{:04x}", self.queue, hash(call_id) % u64::from(u16::MAX))
    }

    /// Where the records of what operators did lie.
    pub fn audit_actions(&self) -> String {
        format!("{}-audit.actions", self.queue)
    }
}

/// FNV-1a: the same in every version, for it stands in subjects.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_call_has_one_of_65_535_subjects_and_always_the_same() {
        let names = Names::new("q", "q");
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8, "as published");
        let subjects: BTreeSet<_> = (0..1_000).map(|n| names.audit_of(&format!("call-{n}"))).collect();
        assert!(subjects.len() > 950 && subjects.iter().all(|subject| subject.len() == "q-audit.0000".len()));
        assert_eq!(names.audit_of("call-1"), names.audit_of("call-1"));
    }

    #[test]
    fn a_record_reads_back_as_it_was_written_and_one_of_tomorrow_is_read_too() {
        let text = r#"{"record":"call","queue":"q","function":"f","callId":"a","originalId":"q:1-1",
            "outcome":"exhausted","attempts":[{"n":1,"status":502,"milliseconds":3,"worker":"w"},
            {"n":2,"status":"timeout","milliseconds":3,"worker":"w","at":"1970-01-01T00:00:09Z"}],"new":1}"#;
        let read: Record = serde_json::from_str(text).unwrap();
        let again: Record = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(read, again);
        let Record::Call(call) = &read else { panic!("{read:?}") };
        assert_eq!((call.attempts.len(), call.call_id.as_deref()), (2, Some("a")));
        for (told, expected) in [("null", 0), ("\"2\"", 2), ("3", 3), ("\"by-hand\"", 1)] {
            let call = text.replace("\"new\":1", &format!("\"redrives\":{told}"));
            let Record::Call(call) = serde_json::from_str(&call).unwrap() else { panic!("{call}") };
            assert_eq!(call.redrives, expected);
        }
        let action = r#"{"record":"action","action":"redrive","by":"me","count":3}"#;
        assert!(matches!(serde_json::from_str(action), Ok(Record::Action(_))));
    }
}
