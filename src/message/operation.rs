//! An operation on dead letters or on parked calls, as its record in the stream of operations says it.
//! Commands make records and read them, workers carry them out; all that both know is in here.

mod canary;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use canary::{Canary, MOST_CANARIES, Sent};

use crate::message::{
    audit::{Action, ENDED},
    letter::{
        Letter,
        choice::{Choice, moment},
    },
};

/// How long an operation is its worker's alone. It is prolonged with each word about its progress.
pub const LEASE: Duration = Duration::from_secs(10);

/// The record of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Its id.
    pub operation: String,
    /// What is done with the letters.
    pub kind: Kind,
    /// Their queue.
    pub queue: String,
    /// How far it is.
    pub state: State,
    /// Who asked for it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which letters.
    pub choice: Choice,
    /// The highest sequence then: what dies later is not meant.
    pub cutoff: u64,
    /// Letters that were in other open operations then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Share>,
    /// The most letters a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// The function that is called instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The letters that go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How many letters were meant when it was made.
    pub matched: u64,
    /// With how many of them it is done.
    #[serde(default)]
    pub done: u64,
    /// How many are left alone: another operation has them, or they were gone, or cannot be done so.
    #[serde(default)]
    pub skipped: u64,
    /// How many could not be done.
    #[serde(default)]
    pub failed: u64,
    /// All letters up to this sequence are done with.
    #[serde(default)]
    pub cursor: u64,
    /// The sequences that are being done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch: Vec<u64>,
    /// When it was made.
    #[serde(default, with = "moment")]
    pub made: Option<SystemTime>,
    /// When its record was last written.
    #[serde(default, with = "moment")]
    pub updated: Option<SystemTime>,
    /// Who carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Until when it is theirs.
    #[serde(default, with = "moment", skip_serializing_if = "Option::is_none")]
    pub until: Option<SystemTime>,
    /// A word for people about its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The key under which it was asked for, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// What a caller who may ask again said: hashes, for keys and bodies are theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Of the key, with what is to be done.
    pub key: String,
    /// Of the words in which it was asked for.
    pub words: String,
}

/// What is done, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// They are sent round again.
    Redrive,
    /// They are deleted.
    Discard,
    /// Parked calls, which are made due so that they end as cancelled.
    Cancel,
}

impl Kind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
            Self::Cancel => "cancel",
        }
    }

    /// Whether it is done with parked calls, and not with dead letters.
    pub fn is_of_retries(self) -> bool {
        self == Self::Cancel
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has begun it.
    Waiting,
    /// A worker carries it out, or another will when that one's lease is over.
    Running,
    /// Somebody asked to end it, and its worker has not said yet that it did.
    Aborting,
    /// It ended by itself before its time: see its note.
    Stopped,
    /// Somebody ended it.
    Aborted,
    /// All its letters are done with.
    Done,
}

impl State {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Aborting => "aborting",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
            Self::Done => "done",
        }
    }

    /// Whether there is something to do yet.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running | Self::Aborting)
    }
}

/// Letters of another operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// That operation.
    pub operation: String,
    /// Which letters.
    pub choice: Choice,
    /// The highest sequence.
    pub cutoff: u64,
}

impl Share {
    /// Whether a letter is one of these.
    pub fn covers(&self, letter: &Letter) -> bool {
        letter.sequence <= self.cutoff && self.choice.covers(letter)
    }
}

impl Operation {
    /// Whether another one may be about the same letters.
    pub fn is_beside(&self, kind: Kind) -> bool {
        self.state.is_open() && self.kind.is_of_retries() == kind.is_of_retries()
    }

    /// Whether a letter is one of its own.
    pub fn covers(&self, letter: &Letter) -> bool {
        letter.sequence <= self.cutoff
            && self.choice.covers(letter)
            && !self.except.iter().any(|other| other.covers(letter))
    }

    /// How many letters it has before it.
    pub fn left(&self) -> u64 {
        self.matched.saturating_sub(self.done).saturating_sub(self.skipped).saturating_sub(self.failed)
    }

    /// Its letters, as another operation leaves them alone.
    pub fn share(&self) -> Share {
        Share { operation: self.operation.clone(), choice: self.choice.clone(), cutoff: self.cutoff }
    }

    /// Whether whoever wants may carry it out.
    pub fn is_free(&self, now: SystemTime) -> bool {
        self.state.is_open() && self.until.is_none_or(|until| until <= now)
    }

    /// The same, in the hands of a worker.
    #[must_use]
    pub fn held_by(&self, worker: &str, now: SystemTime) -> Self {
        let state = if self.state == State::Aborting { self.state } else { State::Running };
        Self { worker: Some(worker.to_owned()), until: Some(now + LEASE), state, ..self.clone() }
    }

    /// The same, in nobody's hands.
    pub fn release(&mut self) {
        (self.worker, self.until) = (None, None);
    }

    /// It ended so.
    pub fn end(&mut self, state: State, note: Option<String>) {
        (self.state, self.note) = (state, note);
        self.batch.clear();
        self.release();
        if state == State::Done {
            // What was gone before it came to it was left alone.
            self.skipped = self.matched.saturating_sub(self.done.saturating_add(self.failed));
        }
    }

    /// What is recorded of its end.
    pub fn ended(&self) -> Action {
        Action {
            action: ENDED.to_owned(),
            by: self.by.clone(),
            filter: serde_json::to_value(self.choice.said()).ok(),
            count: Some(self.done),
            reason: self.reason.clone(),
            operation: Some(self.operation.clone()),
            state: Some(self.state.as_str().to_owned()),
            ..Action::default()
        }
    }

    /// Goes on where it ended.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn resume(&mut self) -> Result<(), String> {
        match self.state {
            State::Stopped | State::Aborted => {}
            State::Done => return Err("it is done".to_owned()),
            open => return Err(format!("it is {} already", open.as_str())),
        }
        self.release();
        (self.state, self.note) = (State::Waiting, None);
        if let Some(canary) = self.canary.as_mut().filter(|canary| !canary.passed) {
            canary.sent.clear();
        }
        Ok(())
    }

    /// Ends it, at once where nobody carries it out.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn abort(&mut self, now: SystemTime) -> Result<(), String> {
        if !self.state.is_open() {
            return Err(format!("it is {} already", self.state.as_str()));
        }
        if self.is_free(now) {
            self.end(State::Aborted, None);
        } else {
            self.state = State::Aborting;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    pub(super) fn example() -> Operation {
        serde_json::from_str(
            r#"{"operation":"o","kind":"redrive","queue":"q","state":"waiting","by":"me","choice":{"function":"f"},
            "cutoff":9,"matched":5,"ofTomorrow":1}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut operation = Operation { made: Some(at(1)), rate: Some(7), ..example() };
        operation.canary = Some(Canary { calls: 1, require: 90, sent: Vec::new(), before: 3, passed: false });
        operation.except.push(Operation { operation: "p".to_owned(), ..example() }.share());
        operation = operation.held_by("w", at(100));
        let written = serde_json::to_string(&operation).unwrap();
        assert_eq!(serde_json::from_str::<Operation>(&written).unwrap(), operation, "{written}");
    }

    #[test]
    fn an_operation_is_free_unless_somebody_has_it_whose_lease_lasts() {
        let mut operation = example();
        assert!(operation.is_free(at(100)));
        operation = operation.held_by("w", at(100));
        assert_eq!(operation.state, State::Running);
        assert_eq!([100, 109, 110].map(|now| operation.is_free(at(now))), [false, false, true]);
        operation.end(State::Done, None);
        assert!(!operation.is_free(at(999)));
        assert_eq!((operation.skipped, operation.worker), (5, None), "what was gone was left alone");
    }

    #[test]
    fn an_operation_is_ended_by_its_worker_or_at_once_and_goes_on_only_where_it_ended() {
        let mut held = example().held_by("w", at(100));
        assert_eq!(held.clone().resume().unwrap_err(), "it is running already");
        held.abort(at(101)).unwrap();
        assert_eq!((held.state, held.is_free(at(101))), (State::Aborting, false));
        assert_eq!(held.held_by("v", at(200)).state, State::Aborting, "whoever takes it up ends it");
        held.abort(at(200)).unwrap();
        assert_eq!(held.state, State::Aborted);
        assert!(held.abort(at(200)).is_err());
        held.resume().unwrap();
        assert_eq!((held.state, held.is_free(at(0))), (State::Waiting, true));
        held.end(State::Done, None);
        assert_eq!(held.resume().unwrap_err(), "it is done");
    }

    #[test]
    fn a_canary_passes_with_the_share_that_was_asked_for() {
        let sent = |n| {
            let one = Sent {
                function: "f".into(),
                origin: "q:7-10".into(),
                generation: 1,
                redrives: "1".into(),
                callback: false,
            };
            vec![one; n]
        };
        for (n, require, succeeded, passes) in
            [(10, 90, 9, true), (10, 90, 8, false), (3, 100, 3, true), (3, 0, 0, true), (10, 91, 9, false)]
        {
            let canary = Canary { calls: 10, require, sent: sent(n), before: 0, passed: false };
            assert_eq!(canary.judge(succeeded).0, passes, "{n} {require} {succeeded}");
        }
    }
}
