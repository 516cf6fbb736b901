//! What happened, seen from outside the worker, and what must never have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use bytes::Bytes;
use queue_worker::names;
use tokio::time::Instant;

use crate::{
    plan::{Answer, Plan, Step, step},
    server::{Stored, Taken},
};

/// A call as the gateway saw it.
#[derive(Debug)]
struct Call {
    worker: usize,
    retry: u32,
    answer: Answer,
    ended: Option<Instant>,
    cut: bool,
}

#[derive(Debug, Default)]
struct Message {
    script: Vec<Step>,
    calls: Vec<Call>,
    /// When it came to a worker again though nothing that follows from it could be found: an outcome may be lost.
    lost: Vec<Instant>,
    redelivered: u32,
    letters: Vec<(u32, String)>,
    /// The callback, where one is asked for.
    callback: Option<Callback>,
    /// A restarted broker stored a clone twice, because it had forgotten the first one's id.
    copied: bool,
}

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Call,
    Callback,
    DeadLetter,
    DeadCallback,
}

/// What came of a callback.
#[derive(Debug, Default)]
struct Callback {
    script: Vec<Step>,
    posts: usize,
    taken: usize,
    letters: usize,
    /// Whether it came to a worker again after a POST whose outcome may be lost.
    again: bool,
}

#[derive(Debug)]
pub struct Ledger {
    began: Instant,
    messages: BTreeMap<Bytes, (String, Message)>,
    keys: BTreeMap<String, Bytes>,
    /// Identity, hop and kind of all that was ever stored.
    stored: BTreeSet<(String, u64, What)>,
    most_at_once: BTreeMap<usize, usize>,
    /// Whether the broker was killed, and forgot ids.
    pub forgetful: bool,
    pub broken: Vec<String>,
    pub trace: Vec<String>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            messages: BTreeMap::new(),
            keys: BTreeMap::new(),
            stored: BTreeSet::new(),
            most_at_once: BTreeMap::new(),
            forgetful: false,
            broken: Vec::new(),
            trace: Vec::new(),
        }
    }

    pub fn note(&mut self, text: &str) {
        self.trace.push(format!("{:>9.3} {text}", self.began.elapsed().as_secs_f64()));
    }

    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            self.note(&format!("!!! {what}"));
            self.broken.push(what);
        }
    }

    pub fn announce(&mut self, key: &str, payload: &Bytes, script: Vec<Step>, callback: Option<Vec<Step>>) {
        self.keys.insert(key.to_owned(), payload.clone());
        let callback = callback.map(|script| Callback { script, ..Callback::default() });
        self.messages.insert(payload.clone(), (key.to_owned(), Message { script, callback, ..Message::default() }));
    }

    fn message(&mut self, key: &str) -> &mut Message {
        &mut self.messages.get_mut(&self.keys[key]).unwrap().1
    }

    fn key(&self, stored: &Stored) -> String {
        if stored.is_callback() { stored.call_id().unwrap().to_owned() } else { self.messages[&stored.record.payload].0.clone() }
    }

    pub fn stored(&mut self, stored: &Stored, sequence: u64, plan: &Plan) {
        let (key, record) = (self.key(stored), &stored.record);
        let (id, hop) = stored.identity(sequence);
        self.note(&format!("stored {key} hop {hop} on {} as {sequence}, attempts {}", record.subject, stored.attempts()));
        let header = |name: &str| record.headers.get(name).map(|value| value.as_str().to_owned());
        let cause = header(names::CAUSE);
        let what = match (stored.is_callback(), &cause) {
            (false, None) => What::Call,
            (true, None) => What::Callback,
            (false, Some(_)) => What::DeadLetter,
            (true, Some(_)) => What::DeadCallback,
        };
        if !self.stored.insert((id, hop, what)) && self.forgetful {
            self.message(&key).copied = true;
        }
        match (what, cause) {
            (What::DeadCallback, Some(cause)) => {
                self.require(cause == "callback", || format!("{key}'s callback died as {cause}"));
                self.message(&key).callback.as_mut().unwrap().letters += 1;
            }
            (_, Some(cause)) => self.message(&key).letters.push((stored.attempts(), cause)),
            (_, None) => {}
        }
        let due = header(names::DUE).and_then(|due| humantime::parse_rfc3339(&due).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
        let wait = due.duration_since(stored.stored).unwrap_or_default();
        self.require(wait <= plan.max_wait.max(plan.max_retry_after), || format!("{key} waits for {wait:?}"));
    }

    /// `settled`: whether what follows from it can be found.
    pub fn delivered(&mut self, taken: &Taken, settled: bool, to: usize, heard: bool) {
        let (key, (_, hop)) = (self.key(&taken.message), taken.message.identity(taken.sequence));
        let how = if heard { "" } else { ", which does not arrive" };
        self.note(&format!("delivered {key} hop {hop} to worker {to}, delivery {}{how}, settled {settled}", taken.count));
        let message = self.message(&key);
        if let Some(callback) = message.callback.as_mut().filter(|callback| taken.again && callback.posts > 0) {
            callback.again = true;
        }
        if taken.message.is_callback() {
            return;
        }
        message.redelivered += u32::from(taken.count > 1);
        if taken.again && !settled {
            message.lost.push(Instant::now());
        }
    }

    /// Nothing is acknowledged before what follows from it is stored.
    pub fn acknowledged(&mut self, stored: &Stored, sequence: u64) {
        let key = self.key(stored);
        let (id, hop) = stored.identity(sequence);
        self.note(&format!("acknowledged {key} hop {hop}"));
        let stands = |what| self.stored.contains(&(id.clone(), hop + 1, what));
        let called = stands(What::Call);
        let parked = stands(What::Callback);
        let attempts = stored.attempts();
        let message = self.message(&key);
        // There is one dead letter an invocation and one a callback, and a late one may be of an earlier hop.
        let told = parked || message.callback.as_ref().is_none_or(|callback| callback.taken + callback.letters > 0);
        let done = message.calls.iter().any(|call| call.succeeded() && call.retry == attempts);
        let ended = done || !message.letters.is_empty() || stored.is_callback();
        self.require(called || (ended && told), || format!("{key} hop {hop} was acknowledged with nothing to follow"));
    }

    /// A POST of a callback begins; returns how it will go.
    pub fn posts(&mut self, key: &str, worker: usize) -> Step {
        self.note(&format!("worker {worker} posts {key}"));
        let message = self.message(key);
        let ended = !message.letters.is_empty() || message.calls.iter().any(Call::succeeded);
        let callback = message.callback.as_mut().unwrap();
        let step = step(&callback.script, callback.posts);
        callback.posts += 1;
        self.require(ended, || format!("{key} is told before it ended"));
        step
    }

    pub fn posted(&mut self, key: &str, answer: Answer) {
        self.note(&format!("posted {key}: {answer:?}"));
        self.message(key).callback.as_mut().unwrap().taken += usize::from(answer == Answer::Status(200));
    }

    /// A call begins; returns how it will go.
    pub fn called(&mut self, key: &str, retry: u32, worker: usize, plan: &Plan) -> (usize, Step) {
        let now = Instant::now();
        self.note(&format!("worker {worker} calls {key}, retry {retry}"));
        let message = self.message(key);
        let nth = message.calls.len();
        let step = step(&message.script, nth);
        let running = !message.copied && message.calls.iter().any(Call::runs);
        // The outcome that this call follows, and when it allowed the next.
        let allowed = message
            .calls
            .iter()
            .filter(|call| call.retry + 1 == retry)
            .filter_map(|call| Some(call.ended? + plan.wait_after(call.answer, call.retry)?));
        let allowed = if retry == 0 { Some(now) } else { allowed.min() };
        message.calls.push(Call { worker, retry, answer: step.answer, ended: None, cut: false });
        let at_once = self.running(worker);
        let most = self.most_at_once.entry(worker).or_default();
        *most = at_once.max(*most);
        self.require(!running, || format!("{key} is called twice at once"));
        self.require(at_once <= plan.max_inflight, || format!("worker {worker} makes {at_once} calls at once"));
        self.require(retry < plan.max_attempts, || format!("{key} is called as retry {retry}"));
        self.require(allowed.is_some_and(|allowed| allowed <= now), || format!("{key}, retry {retry}, is called too early"));
        (nth, step)
    }

    pub fn answered(&mut self, key: &str, nth: usize) {
        let call = &mut self.message(key).calls[nth];
        call.ended = Some(Instant::now());
        let answer = call.answer;
        self.note(&format!("answered {key}: {answer:?}"));
    }

    pub fn cut(&mut self, key: &str, nth: usize) {
        self.message(key).calls[nth].cut = true;
        self.note(&format!("cut {key}"));
    }

    fn running(&self, worker: usize) -> usize {
        self.messages.values().flat_map(|(_, message)| &message.calls).filter(|call| call.worker == worker && call.runs()).count()
    }

    /// The most calls that a worker made at once since this was asked.
    pub fn most_at_once(&mut self, worker: usize) -> usize {
        self.most_at_once.remove(&worker).unwrap_or(0)
    }

    /// How much of what can happen did happen.
    pub fn tally(&self) -> BTreeMap<&'static str, usize> {
        let mut tally = BTreeMap::new();
        let mut add = |what, number| *tally.entry(what).or_default() += number;
        for (_, message) in self.messages.values() {
            add("calls", message.calls.len());
            add("cut calls", message.calls.iter().filter(|call| call.cut).count());
            add("redeliveries", message.redelivered as usize);
            add("outcomes that may be lost", message.lost.len());
            add("double clones", usize::from(message.copied));
            add("dead letters", message.letters.len());
            if let Some(callback) = &message.callback {
                add("callbacks", 1);
                add("posts", callback.posts);
                add("dead callbacks", callback.letters);
            }
            add("interrupted", message.letters.iter().filter(|(_, cause)| cause == "interrupted").count());
        }
        tally
    }

    /// What has to hold of each message when nothing is queued or parked any more.
    pub fn check_ends(&mut self, plan: &Plan, calm: bool) {
        let mut wrong = Vec::new();
        for (key, message) in self.messages.values() {
            wrong.extend(message.wrong(plan, calm).into_iter().map(|what| format!("{key} {what}")));
        }
        for what in wrong {
            self.require(false, || what);
        }
    }
}

impl Call {
    fn runs(&self) -> bool {
        self.ended.is_none() && !self.cut
    }

    fn succeeded(&self) -> bool {
        self.ended.is_some() && self.answer == Answer::Status(200)
    }
}

impl Message {
    fn wrong(&self, plan: &Plan, calm: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut require = |holds: bool, what: String| {
            if !holds {
                wrong.push(what)
            }
        };
        let done = self.calls.iter().filter(|call| call.succeeded()).count();
        let ends = done + self.letters.len();
        require(ends > 0, "ended nowhere".to_owned());
        require(self.copied || ends <= 1 + self.lost.len(), format!("ended {ends} times, {} outcomes may be lost", self.lost.len()));
        for (index, call) in self.calls.iter().enumerate() {
            let repeated = self.calls[index + 1..].iter().any(|other| other.retry == call.retry);
            let excused = call.cut || call.ended.is_some_and(|ended| self.lost.iter().any(|lost| *lost >= ended));
            require(!repeated || excused || self.copied, format!("was called again as retry {} though its outcome was known", call.retry));
        }
        for (attempts, cause) in &self.letters {
            let known = self.calls.iter().filter(|call| call.ended.is_some()).count();
            require(*attempts as usize <= known, format!("died after {attempts} attempts but {known} calls"));
            let fits = match cause.as_str() {
                "exhausted" => *attempts == plan.max_attempts,
                "refused" => self.calls.iter().any(|call| call.answer == Answer::Status(400)),
                "interrupted" => self.redelivered >= 5,
                _ => false,
            };
            require(fits, format!("died as {cause} after {attempts} attempts"));
        }
        if let Some(callback) = &self.callback {
            let told = callback.taken + callback.letters;
            require(told > 0, "ended and its callback nowhere".to_owned());
            let again = callback.again || self.copied || ends > 1;
            require(again || told == 1, format!("was told {told} times"));
            if calm {
                let scripted = plan.posts(&callback.script);
                require(callback.posts == scripted, format!("was posted {} times instead of {scripted}", callback.posts));
            }
        }
        if calm {
            let scripted = plan.calls(&self.script);
            require(self.calls.len() == scripted, format!("was called {} times instead of {scripted}", self.calls.len()));
            require(ends == 1, format!("ended {ends} times"));
        }
        wrong
    }
}
