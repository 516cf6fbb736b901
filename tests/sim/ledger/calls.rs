//! The calls of functions and the POSTs of callbacks, as the gateway sees them.

use std::time::Duration;

use tokio::time::Instant;

use super::Ledger;
use crate::{
    account::Call,
    plan::{Answer, Step, step},
};

/// A call begins at most so long after it was found that it may.
const BEGINS: Duration = Duration::from_secs(1);

impl Ledger {
    /// Somebody cancels a call. One that is not queued yet is none.
    pub fn cancelled(&mut self, key: &str) -> bool {
        self.note(|| format!("{key} is cancelled"));
        self.accounts.get_mut(key).map(|account| account.cancelled = true).is_some()
    }

    /// A POST of a callback begins; returns how it will go.
    pub fn posts(&mut self, key: &str, worker: usize) -> Step {
        self.note(|| format!("worker {worker} posts {key}"));
        let plan = self.plan.clone();
        let account = self.account(key);
        // Where nothing is stored of an end without success, it is only known when the message is let go.
        let ended =
            account.ends() > 0 || account.damaged || !plan.dead_letters && account.may_be_over(0, &plan);
        let callback = account.callback.as_mut().unwrap();
        let step = step(&callback.script, callback.posts);
        callback.posts += 1;
        self.require(ended, || format!("{key} is told before it ended"));
        step
    }

    pub fn posted(&mut self, key: &str, answer: Answer) {
        self.note(|| format!("posted {key}: {answer:?}"));
        self.account(key).callback.as_mut().unwrap().taken += usize::from(answer == Answer::Status(200));
    }

    /// The function is paused from now on, or resumed.
    pub fn pauses(&mut self, paused: bool) {
        self.note(|| if paused { "paused".to_owned() } else { "resumed".to_owned() });
        self.paused = paused.then(Instant::now);
    }

    /// A call begins; returns how it will go.
    pub fn called(&mut self, key: &str, retry: u32, worker: usize) -> (usize, Step) {
        let now = Instant::now();
        self.note(|| format!("worker {worker} calls {key}, retry {retry}"));
        let plan = self.plan.clone();
        let account = self.account(key);
        let nth = account.calls.len();
        let step = step(&account.script, nth);
        let (damaged, cancelled) = (account.damaged, account.cancelled);
        let running = !account.copied && account.calls.iter().any(Call::runs);
        let (known, followed) = (account.knows(retry), account.allows(retry, &plan));
        account.calls.push(Call { worker, retry, answer: None, ended: None, cut: false });
        let at_once = self.running(worker);
        let most = self.most_at_once.entry(worker).or_default();
        *most = at_once.max(*most);
        // A try that is made in place belongs to a call that was running.
        let begins = plan.immediate_retries == 0 || retry == 0;
        let paused = self.paused.is_some_and(|since| begins && now > since + BEGINS);
        self.require(!paused, || format!("{key} is called though its function is paused"));
        let (attempts, inflight) = (plan.max_attempts, plan.max_inflight);
        self.require(!cancelled || damaged, || format!("{key} is called after it was cancelled"));
        self.require(!running, || format!("{key} is called twice at once"));
        self.require(!known, || {
            format!("{key} is called again as retry {retry} though its outcome was known")
        });
        self.require(at_once <= inflight, || format!("worker {worker} makes {at_once} calls at once"));
        self.require(retry < attempts || damaged, || format!("{key} is called as retry {retry}"));
        let early = followed.map(|(ended, wait)| {
            let allowed = self.accounts[key].hurried(ended) + self.stepped(true, ended);
            (ended + wait).saturating_duration_since(now).saturating_sub(allowed)
        });
        let early = early.unwrap_or(if retry == 0 { Duration::ZERO } else { Duration::MAX });
        self.require(early.is_zero() || damaged, || {
            format!("{key}, retry {retry}, is called too early, by {early:?}")
        });
        (nth, step)
    }

    pub fn answered(&mut self, key: &str, nth: usize, answer: Answer) {
        let call = &mut self.account(key).calls[nth];
        (call.ended, call.answer) = (Some(Instant::now()), Some(answer));
        self.note(|| format!("answered {key}: {answer:?}"));
    }

    pub fn cut(&mut self, key: &str, nth: usize) {
        self.account(key).calls[nth].cut = true;
        self.note(|| format!("cut {key}"));
    }

    fn running(&self, worker: usize) -> usize {
        self.accounts
            .values()
            .flat_map(|account| &account.calls)
            .filter(|call| call.worker == worker && call.runs())
            .count()
    }

    /// The most calls that a worker made at once since this was asked.
    pub fn most_at_once(&mut self, worker: usize) -> usize {
        self.most_at_once.remove(&worker).unwrap_or(0)
    }
}
