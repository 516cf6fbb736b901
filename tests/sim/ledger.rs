//! What happened, seen from outside the worker, and what must never have while it did.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use queue_worker::{
    message::{names, record::Record},
    observe::metrics::Registry,
    upkeep::levels,
};
use tokio::time::Instant;

use crate::{
    account::Account,
    consumer::{Role, Taken},
    gzip,
    plan::{self, Plan},
    server::WINDOW,
    stored::Stored,
};

mod beside;
mod calls;

/// A worker learns within this time what the broker's clock says, where nothing is in its way.
const LEARNS: Duration = Duration::from_secs(15);
/// A worker's idea of the broker's time is ahead of it by one journey at most.
const AHEAD: Duration = Duration::from_millis(250);

/// A retry leaves its level within this time after it is due, where nothing is in its way: who has no place
/// there gets one at the next look.
const MOVED: Duration = Duration::from_secs(levels::LOOK.as_secs() + 1);

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Call,
    Callback,
    DeadLetter,
    DeadCallback,
}

/// What follows from a message, and whether whoever looks now finds it.
#[derive(Debug)]
pub struct Successor {
    pub id: String,
    pub found: bool,
}

#[derive(Debug)]
pub struct Ledger {
    plan: Arc<Plan>,
    began: Instant,
    accounts: BTreeMap<String, Account>,
    keys: BTreeMap<Bytes, String>,
    /// Key, generation, kind and place of all that was ever stored.
    stored: BTreeMap<(String, u64, What, String), Instant>,
    most_at_once: BTreeMap<usize, usize>,
    /// The messages that came again when what followed from them was still to be found, by that one's id.
    doubted: BTreeMap<String, String>,
    /// Whether the broker was killed, and forgot ids.
    forgetful: bool,
    /// When somebody set the broker's clock, and by how much forward or back.
    steps: Vec<(Instant, bool, Duration)>,
    /// When the function was paused, if it is.
    paused: Option<Instant>,
    /// What the workers show.
    registry: Registry,
    /// How many holders went by a janitor's hand, and how many messages were stored compressed.
    moved: usize,
    compressed: usize,
    /// How many requests were made while messages of earlier ones were on their way, and how often a
    /// connection broke with several open.
    overlapping: [usize; 2],
    ahead: usize,
    pub broken: Vec<String>,
    pub trace: Vec<String>,
    verbose: bool,
}

impl Ledger {
    pub fn new(plan: Arc<Plan>, registry: Registry, verbose: bool) -> Self {
        Self {
            plan,
            began: Instant::now(),
            accounts: BTreeMap::new(),
            keys: BTreeMap::new(),
            stored: BTreeMap::new(),
            most_at_once: BTreeMap::new(),
            doubted: BTreeMap::new(),
            forgetful: false,
            steps: Vec::new(),
            paused: None,
            registry,
            moved: 0,
            compressed: 0,
            overlapping: [0; 2],
            ahead: 0,
            broken: Vec::new(),
            trace: Vec::new(),
            verbose,
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.trace.push(format!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), text()));
        }
    }

    pub fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            self.note(|| format!("!!! {what}"));
            self.broken.push(what);
        }
    }

    pub fn announce(&mut self, key: &str, payload: &Bytes, message: plan::Message) {
        self.keys.insert(payload.clone(), key.to_owned());
        self.accounts.insert(key.to_owned(), Account::of(message));
    }

    fn account(&mut self, key: &str) -> &mut Account {
        self.accounts.get_mut(key).unwrap_or_else(|| panic!("nobody queued {key}"))
    }

    fn key(&self, record: &Record) -> String {
        let plain = gzip::unpacked(&record.payload);
        let told = || record.headers.get(names::CALL_ID).map(|id| id.as_str().to_owned());
        // A callback whose headers had no room for it says it in its payload.
        let written = || {
            Some(
                serde_json::from_slice::<serde_json::Value>(&plain).ok()?.get("callId")?.as_str()?.to_owned(),
            )
        };
        self.keys
            .get(&plain)
            .cloned()
            .or_else(told)
            .or_else(written)
            .unwrap_or_else(|| panic!("whose is {record:?}, {plain:?}?"))
    }

    pub fn stored(&mut self, stored: &Stored, sequence: u64) {
        let (key, generation, record) = (self.key(&stored.record), stored.generation(), &stored.record);
        self.note(|| {
            format!(
                "stored {key} generation {generation} on {} as {sequence}, attempts {}",
                record.subject,
                stored.attempts()
            )
        });
        let cause = stored.told(names::CAUSE);
        if stored.record.stream.contains('-') {
            self.compressed += usize::from(gzip::is(&record.payload));
            let strange = stored.strange_header();
            self.require(strange.is_none(), || {
                format!("{key} generation {generation} carries a header of the broker's: {strange:?}")
            });
        }
        let what = match (stored.is_callback(), cause) {
            (false, None) => What::Call,
            (true, None) => What::Callback,
            (false, Some(_)) => What::DeadLetter,
            (true, Some(_)) => What::DeadCallback,
        };
        let before =
            self.stored.insert((key.clone(), generation, what, stored.place().to_owned()), Instant::now());
        // What a janitor brought while there were no schedules, and did not come to delete, is fired later:
        // by then somebody may have set the clock back by more than ids are remembered.
        let outlived = |before: Instant| self.plan.is_downgraded() && before.elapsed() >= WINDOW;
        if before.is_some_and(|before| self.forgetful || outlived(before)) {
            self.account(&key).copied = true;
        }
        match (what, cause) {
            (What::DeadCallback, Some(cause)) if self.accounts[&key].callback.is_some() => {
                let damaged = self.accounts[&key].damaged;
                self.require(cause == "callback" || damaged, || format!("{key}'s callback died as {cause}"));
                self.account(&key).callback.as_mut().unwrap().letters += 1;
            }
            (_, Some(cause)) => self.account(&key).letters.push((stored.attempts(), cause.to_owned())),
            (_, None) => {}
        }
        let due = stored
            .told(names::DUE)
            .and_then(|due| humantime::parse_rfc3339(due).ok())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let wait = due.duration_since(stored.stored).unwrap_or_default();
        let late = stored.stored.duration_since(due).unwrap_or_default();
        let in_time = late <= MOVED || !record.id.ends_with(".due") || !self.plan.is_calm();
        self.require(in_time, || format!("{key} leaves its level {late:?} late"));
        let most = if what == What::Call {
            self.accounts[&key].longest_wait(&self.plan)
        } else {
            self.plan.max_wait.max(self.plan.max_retry_after)
        };
        let most = most + AHEAD + self.stepped(false, self.began);
        self.require(wait <= most || self.accounts[&key].damaged, || format!("{key} waits for {wait:?}"));
    }

    /// A clone is stored when its worker waits for that no more. By then another one may have brought the
    /// message that it was made of to its end, of which nothing has to be left.
    pub fn stored_late(&mut self, stored: &Stored) {
        let key = self.key(&stored.record);
        if stored.generation() > 0 {
            self.account(&key).lost.push(Instant::now());
        }
    }

    pub fn delivered(&mut self, taken: &Taken, role: Role, successor: &Successor, to: usize, heard: bool) {
        let (key, generation) = (self.key(&taken.message.record), taken.message.generation());
        let how = if heard { "" } else { ", which does not arrive" };
        self.note(|| {
            format!(
                "delivered {key} generation {generation} ({role:?}) to worker {to}, delivery {}{how}, \
                    settled {}",
                taken.count, successor.found
            )
        });
        if role == Role::Level {
            return;
        }
        let account = self.account(&key);
        if let Some(callback) = account.callback.as_mut().filter(|callback| taken.again && callback.posts > 0)
        {
            callback.again = true;
        }
        if taken.message.is_callback() {
            return;
        }
        account.redelivered += u32::from(taken.count > 1);
        if taken.again && !successor.found {
            account.lost.push(Instant::now());
        } else if taken.again {
            self.doubted.insert(successor.id.clone(), key);
        }
    }

    /// A worker looked for what follows from a message that came again, and found nothing. It was there when
    /// the message was delivered: since then it has come to its end, and a broker that was killed in between
    /// had forgotten its id.
    pub fn looked_in_vain(&mut self, successor: &str) {
        if let Some(key) = self.doubted.get(successor).cloned() {
            self.note(|| format!("nothing is known any more of what followed from {key}"));
            self.account(&key).lost.push(Instant::now());
        }
    }

    /// Nothing is acknowledged before what follows from it is stored.
    pub fn acknowledged(&mut self, stored: &Stored, role: Role) {
        let (key, generation) = (self.key(&stored.record), stored.generation());
        self.note(|| format!("acknowledged {key} generation {generation} ({role:?})"));
        let stands = |generation: u64, what, places: &[&str]| {
            places
                .iter()
                .any(|place| self.stored.contains_key(&(key.clone(), generation, what, (*place).to_owned())))
        };
        let kind = if stored.is_callback() { What::Callback } else { What::Call };
        if role == Role::Level {
            let moved = stands(generation, kind, &["due"]);
            return self
                .require(moved, || format!("{key} generation {generation} left its level and came nowhere"));
        }
        let anywhere = ["at", "due", "held", "l0", "l1", "l2", "l3", "l4"];
        let next = generation.saturating_add(1);
        let (called, parked) = (stands(next, What::Call, &anywhere), stands(next, What::Callback, &anywhere));
        let (attempts, plan) = (stored.attempts(), self.plan.clone());
        let account = self.account(&key);
        // There is one dead letter an invocation and one a callback, and a late one may be of an earlier
        // generation.
        let told =
            parked || account.callback.as_ref().is_none_or(|callback| callback.taken + callback.letters > 0);
        // Of two holders of one message one may have completed it while the other parks the next attempt.
        let done =
            account.calls.iter().any(|call| call.succeeded() && (call.retry >= attempts || account.copied));
        let ended = done || !account.letters.is_empty() || stored.is_callback();
        let follows = called || ended && told;
        if follows || plan.dead_letters {
            // A damaged clone may say another generation than its parent made it.
            let follows = follows || account.damaged;
            return self.require(follows, || {
                format!("{key} generation {generation} was acknowledged with nothing to follow")
            });
        }
        let may_be = account.drops(generation, attempts, (ended, told), &plan);
        self.require(may_be, || {
            format!("{key} generation {generation} was acknowledged with nothing to follow")
        });
        let dropped =
            self.accounts.values().filter(|account| !account.damaged).map(Account::all_drops).sum::<usize>()
                as u64;
        let counted = self.drops_counted();
        self.require(counted >= dropped, || format!("{dropped} were dropped and {counted} counted"));
    }

    /// A killed broker is back, and gives these out to somebody else as well.
    pub fn broker_killed(&mut self, twice: &[Stored]) {
        self.forgetful = true;
        for stored in twice {
            let key = self.key(&stored.record);
            self.note(|| format!("the broker forgets that it delivered {key}"));
            let account = self.account(&key);
            account.copied = true;
            if let Some(callback) = &mut account.callback {
                callback.again = true;
            }
        }
    }

    pub fn requests_overlap(&mut self, broken: bool) {
        self.overlapping[usize::from(broken)] += 1;
    }

    /// Whether a delivery came that its worker asked for ahead.
    pub fn came_ahead(&mut self, ahead: bool) {
        self.ahead += usize::from(ahead);
    }

    pub fn clock_stepped(&mut self, forward: bool, by: Duration) {
        self.steps.push((Instant::now(), forward, by));
    }

    /// How far the broker's clock was set forward, or back, since `moment`.
    fn stepped(&self, forward: bool, moment: Instant) -> Duration {
        self.steps.iter().filter(|(at, way, _)| *at >= moment && *way == forward).map(|(_, _, by)| *by).sum()
    }

    /// How far a worker's idea of the broker's time is behind it, or ahead of it, when it parks or moves a
    /// retry.
    pub fn clock_is_off(&mut self, worker: usize, record: &Record, behind: Duration, ahead: Duration) {
        let key = self.key(record);
        self.account(&key).off.push((Instant::now(), behind, ahead));
        let lately = self.steps.iter().any(|(at, ..)| at.elapsed() < LEARNS);
        // Where the broker is away or does not answer, or all stand still, it learns nothing.
        let deaf = |event: &plan::Event| {
            matches!(
                event,
                plan::Event::Outage { .. } | plan::Event::ErrorBackoff { .. } | plan::Event::Downgrade { .. }
            )
        };
        let learns =
            self.plan.fault_rates.is_none() && !self.plan.events.iter().any(|(_, event)| deaf(event));
        let off = behind.max(ahead);
        self.require(off.is_zero() || lately || !learns, || {
            format!("worker {worker}'s clock is {off:?} off the broker's")
        });
    }

    /// How much of what can happen did happen.
    pub fn tally(&self) -> BTreeMap<&'static str, usize> {
        let mut tally = BTreeMap::new();
        for account in self.accounts.values() {
            account.tally(|what, number| *tally.entry(what).or_default() += number);
        }
        let [overlapping, broken] = self.overlapping;
        tally.extend([("overlapping requests", overlapping), ("breaks with several open", broken)]);
        tally.extend([("asked for ahead", self.ahead), ("moved by a janitor", self.moved)]);
        tally.extend([("compressed", self.compressed)]);
        tally
    }

    /// What has to hold of each message when nothing is queued or parked any more.
    pub fn check_ends(&mut self) {
        let plan = self.plan.clone();
        let wrong: Vec<String> = self
            .accounts
            .iter()
            .flat_map(|(key, account)| {
                account.wrong(&plan).into_iter().map(move |what| format!("{key} {what}"))
            })
            .collect();
        for what in wrong {
            self.require(false, || what);
        }
    }
}
