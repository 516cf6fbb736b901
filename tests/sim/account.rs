//! One message's account: its calls, its ends, and whether they fit.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::plan::{Answer, Message, Plan, Step};

/// A call as the gateway saw it.
#[derive(Debug)]
pub struct Call {
    pub worker: usize,
    pub retry: u32,
    pub answer: Option<Answer>,
    pub ended: Option<Instant>,
    pub cut: bool,
}

impl Call {
    pub fn runs(&self) -> bool {
        self.ended.is_none() && !self.cut
    }

    pub fn succeeded(&self) -> bool {
        self.answer == Some(Answer::Status(200))
    }
}

/// What came of a callback.
#[derive(Debug, Default)]
pub struct Callback {
    pub script: Vec<Step>,
    pub posts: usize,
    pub taken: usize,
    pub letters: usize,
    /// The hops at which it was given up with no letter, as the settings ask.
    pub drops: BTreeSet<u64>,
    /// Whether it came to a worker again after a POST whose outcome may be lost.
    pub again: bool,
}

#[derive(Debug, Default)]
pub struct Account {
    pub script: Vec<Step>,
    pub calls: Vec<Call>,
    /// When it came to a worker again though nothing that follows from it could be found: an outcome may be
    /// lost.
    pub lost: Vec<Instant>,
    /// How far the clock of a worker that parked or moved it was behind the broker's, and ahead of it.
    pub off: Vec<(Instant, Duration, Duration)>,
    pub redelivered: u32,
    pub letters: Vec<(u32, String)>,
    /// The hops at which it was given up with no letter, as the settings ask.
    pub drops: BTreeSet<u64>,
    /// How often what follows from it fitted nowhere.
    pub refused: usize,
    /// Whether a header of it was damaged while it was parked.
    pub damaged: bool,
    /// The callback, where one is asked for.
    pub callback: Option<Callback>,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// A restarted broker gave it out twice, or stored a clone twice, because it had forgotten the first one.
    pub copied: bool,
}

impl Account {
    pub fn of(message: Message) -> Self {
        let callback = message.callback.map(|script| Callback { script, ..Callback::default() });
        Self { script: message.script, callback, ..Self::default() }
    }

    /// The outcome that allows the attempt `retry` first, and the wait after it.
    pub fn allows(&self, retry: u32, plan: &Plan) -> Option<(Instant, Duration)> {
        let before = self.calls.iter().filter(|call| call.retry + 1 == retry);
        let ended = before.filter_map(|call| Some((call.ended?, plan.wait_after(call.answer?, call.retry)?)));
        ended.min_by_key(|(ended, wait)| *ended + *wait)
    }

    /// How much too early the clocks of those who parked and moved it since `moment` make it.
    pub fn hurried(&self, moment: Instant) -> Duration {
        let since = || self.off.iter().filter(|(at, ..)| *at >= moment);
        let behind = since().map(|(_, behind, _)| *behind).max();
        let ahead = since().map(|(.., ahead)| *ahead).max();
        behind.unwrap_or_default() + ahead.unwrap_or_default()
    }

    /// Whether the outcome of the attempt `retry` is known: nobody may make it again.
    pub fn knows(&self, retry: u32) -> bool {
        let since = |ended: Instant| self.lost.iter().all(|lost| *lost < ended);
        !self.copied && self.calls.iter().any(|call| call.retry == retry && call.ended.is_some_and(since))
    }

    /// The longest wait that its answers so far can ask for.
    pub fn longest_wait(&self, plan: &Plan) -> Duration {
        let asked = self.calls.iter().filter_map(|call| match call.answer {
            Some(Answer::PushedBack(_, seconds)) if plan.max_attempts > 1 => Some(plan.heeded(seconds)),
            _ => None,
        });
        plan.max_wait.max(asked.max().unwrap_or_default())
    }

    /// How often it ended.
    pub fn ends(&self) -> usize {
        self.calls.iter().filter(|call| call.succeeded()).count() + self.letters.len() + self.drops.len()
    }

    /// Whether it may have ended after `attempts`, or later, without success.
    pub fn may_be_over(&self, attempts: u32, plan: &Plan) -> bool {
        let last = |call: &Call| {
            call.retry >= attempts && call.answer.is_some_and(|answer| plan.ends_with(answer, call.retry))
        };
        self.calls.iter().any(last)
            || self.redelivered >= 5
            || self.script.is_empty()
            || plan.max_message_age.is_some()
    }

    /// Its message `generation` is let go after `attempts`. Unless it `ended` before it is dropped, and
    /// unless who asked for its callback was `told` that is. Says whether it may be.
    pub fn drops(
        &mut self,
        generation: u64,
        attempts: u32,
        (ended, told): (bool, bool),
        plan: &Plan,
    ) -> bool {
        let over = self.may_be_over(attempts, plan);
        if !ended {
            self.drops.insert(generation);
        }
        let callback = self.callback.as_mut().filter(|_| !told);
        let posted = callback.is_none_or(|callback| {
            callback.drops.insert(generation);
            callback.posts > 0 || self.redelivered >= 5
        });
        self.damaged || (ended || over) && posted
    }

    /// How often something of it was dropped.
    pub fn all_drops(&self) -> usize {
        self.drops.len() + self.callback.as_ref().map_or(0, |callback| callback.drops.len())
    }

    pub fn tally(&self, mut add: impl FnMut(&'static str, usize)) {
        add("messages", 1);
        add("calls", self.calls.len());
        add("cut calls", self.calls.iter().filter(|call| call.cut).count());
        add("redeliveries", self.redelivered as usize);
        add("outcomes that may be lost", self.lost.len());
        add("given out twice", usize::from(self.copied));
        add("dropped as asked", self.all_drops());
        add("refused for their size", self.refused);
        add("damaged", usize::from(self.damaged));
        add("dead letters", self.letters.len());
        add("interrupted", self.letters.iter().filter(|(_, cause)| cause == "interrupted").count());
        if let Some(callback) = &self.callback {
            add("callbacks", 1);
            add("posts", callback.posts);
            add("dead callbacks", callback.letters);
        }
    }

    /// What does not fit, now that nothing of it is queued or parked any more.
    pub fn wrong(&self, plan: &Plan) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut require = |holds: bool, what: String| {
            if !holds {
                wrong.push(what)
            }
        };
        let ends = self.ends();
        require(ends > 0, "ended nowhere".to_owned());
        require(
            self.copied || ends <= 1 + self.lost.len(),
            format!("ended {ends} times, {} outcomes may be lost", self.lost.len()),
        );
        for (attempts, cause) in &self.letters {
            let known = self.calls.iter().filter(|call| call.ended.is_some()).count();
            require(
                *attempts as usize <= known || self.damaged,
                format!("died after {attempts} attempts but {known} calls"),
            );
            require(self.fits(*attempts, cause, plan), format!("died as {cause} after {attempts} attempts"));
        }
        if let Some(callback) = &self.callback {
            let told = callback.taken + callback.letters + callback.drops.len();
            require(told > 0 || self.damaged, "ended and its callback nowhere".to_owned());
            let again = callback.again || self.copied || ends > 1;
            require(again || told == 1, format!("was told {told} times"));
        }
        if plan.is_calm() && plan.max_message_age.is_none() && !self.script.is_empty() {
            let scripted = plan.calls(&self.script);
            require(
                self.calls.len() == scripted,
                format!("was called {} times instead of {scripted}", self.calls.len()),
            );
            require(ends == 1, format!("ended {ends} times"));
            if let Some(callback) = &self.callback {
                let scripted = plan.posts(&callback.script);
                require(
                    callback.posts == scripted,
                    format!("was posted {} times instead of {scripted}", callback.posts),
                );
            }
        }
        wrong
    }

    /// Whether a dead letter tells the truth.
    fn fits(&self, attempts: u32, cause: &str, plan: &Plan) -> bool {
        match cause {
            _ if self.damaged => true,
            "exhausted" => attempts == plan.max_attempts,
            "refused" => self.calls.iter().any(|call| call.answer == Some(Answer::Status(400))),
            "interrupted" => self.redelivered >= 5,
            "undecodable" => self.script.is_empty() && attempts == 0,
            "expired" => plan.max_message_age.is_some(),
            "cancelled" => self.cancelled,
            _ => false,
        }
    }
}
