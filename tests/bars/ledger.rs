//! What was accepted, called, settled and dead, seen from outside the workers, and the verdict on it. Pure.

mod tests;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use tokio::time::Instant;

/// So long before its call a message may be in a worker's hands: it waits for a permit there, or until the
/// broker has said whether it was settled before. A broker that is killed meanwhile forgets that it delivered
/// the message, and delivers it again.
const WAITING: Duration = Duration::from_secs(10);

/// So long after its end a call counts as in flight: its outcome is being stored, or the broker has it in
/// memory only.
const SETTLING: Duration = Duration::from_secs(2);

/// So soon after a call the next one of the same worker belongs to it: no retry that was parked comes as
/// soon.
const AT_ONCE: Duration = Duration::from_millis(300);

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Completes once it was tried so often without success.
    After(u32),
    /// Fails to the end.
    Exhausted,
    /// Is refused at once.
    Refused,
}

impl Fate {
    fn cause(self) -> Option<&'static str> {
        match self {
            Self::After(_) => None,
            Self::Exhausted => Some("exhausted"),
            Self::Refused => Some("refused"),
        }
    }
}

/// How a call ended, as far as the gateway can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// With the answer that ends the message well, whole.
    Success,
    /// With any other answer.
    Failure,
    /// With none, or with a part of one.
    Nothing,
}

/// A call as the gateway saw it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which worker made it.
    pub worker: usize,
    /// How many attempts there were before, by its own word.
    pub retry: u32,
    pub from: Instant,
    pub to: Instant,
    pub came: Came,
}

/// Something that was done to the parts.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub what: &'static str,
    pub from: Instant,
    pub to: Instant,
    /// The one worker that it was done to, if it was only one.
    pub worker: Option<usize>,
}

#[derive(Clone, Debug)]
struct Page {
    fate: Fate,
    accepted: bool,
    wants_callback: bool,
    calls: Vec<Entry>,
    causes: Vec<String>,
    told: usize,
}

/// The books of one run. Messages go by their number.
#[derive(Debug, Default)]
pub struct Ledger {
    pages: BTreeMap<usize, Page>,
    faults: Vec<Fault>,
}

/// What the books say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub accepted: usize,
    /// Published, and no acknowledgement came: they may or may not be there.
    pub doubtful: usize,
    pub calls: usize,
    pub done: usize,
    pub dead: usize,
    /// Taken for what kills the workers.
    pub interrupted: usize,
    /// Accepted, and ended nowhere.
    pub lost: Vec<usize>,
    /// Completed, and dead-lettered as well.
    pub both: Vec<usize>,
    /// Dead-lettered more than once.
    pub dead_twice: Vec<usize>,
    /// Ended as something else than its calls said.
    pub astray: Vec<usize>,
    /// Called for an attempt that another attempt had followed already, without a fault.
    pub misordered: Vec<usize>,
    /// Calls that were made before, by the number of their attempt.
    pub repeated: usize,
    /// Of these, calls that no fault met the first time.
    pub unexplained: Vec<usize>,
    /// Calls that ran when a fault came or while it lasted.
    pub in_flight: usize,
    /// Calls that a fault may have met, from the delivery to the end of the settling.
    pub exposed: usize,
    /// Ended, and nobody told the receiver of the callback.
    pub untold: Vec<usize>,
    /// Callbacks that were taken more than once.
    pub retold: usize,
    /// Stored, but neither waiting to be delivered nor to be acknowledged.
    pub orphans: u64,
}

impl Ledger {
    /// A message is about to be published.
    pub fn announce(&mut self, number: usize, fate: Fate, wants_callback: bool) {
        let page =
            Page { fate, accepted: false, wants_callback, calls: Vec::new(), causes: Vec::new(), told: 0 };
        self.pages.insert(number, page);
    }

    /// The broker acknowledged a message.
    pub fn accepted(&mut self, number: usize) {
        self.page(number).accepted = true;
    }

    /// A call ended.
    pub fn called(&mut self, number: usize, entry: Entry) {
        self.page(number).calls.push(entry);
    }

    /// A dead letter was found.
    pub fn died(&mut self, number: usize, cause: &str) {
        self.page(number).causes.push(cause.to_owned());
    }

    /// The receiver of callbacks took one.
    pub fn told(&mut self, number: usize) {
        self.page(number).told += 1;
    }

    /// Something was done to the parts.
    pub fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn page(&mut self, number: usize) -> &mut Page {
        self.pages.get_mut(&number).unwrap_or_else(|| panic!("nobody announced message {number}"))
    }

    /// The calls of one message, for people who ask what became of it.
    pub fn story(&self, number: usize, since: Instant) -> String {
        let page = &self.pages[&number];
        let mut lines = vec![format!(
            "call-{number}: {:?}, accepted {}, dead {:?}, told {} times",
            page.fate, page.accepted, page.causes, page.told
        )];
        lines.extend(page.calls.iter().map(|call| {
            let (from, to) = (call.from - since, call.to - since);
            format!(
                "  worker {} retry {} from {from:.3?} to {to:.3?}: {:?}",
                call.worker, call.retry, call.came
            )
        }));
        lines.join("\n")
    }

    /// The faults, as a list of when they were, for the same people.
    pub fn faults(&self, since: Instant) -> String {
        let line = |fault: &Fault| {
            format!(
                "  {} from {:.3?} to {:.3?}, worker {:?}",
                fault.what,
                fault.from - since,
                fault.to - since,
                fault.worker
            )
        };
        self.faults.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What the books say when all has ended. `orphans` is the broker's word.
    pub fn verdict(&self, orphans: u64) -> Verdict {
        let mut verdict = Verdict { orphans, ..Verdict::default() };
        for (number, page) in &self.pages {
            page.judge(*number, &self.faults, &mut verdict);
        }
        verdict
    }
}

impl Page {
    fn judge(&self, number: usize, faults: &[Fault], verdict: &mut Verdict) {
        let mut calls = self.calls.clone();
        calls.sort_by_key(|call| call.from);
        let done = calls.iter().any(|call| call.came == Came::Success);
        let ended = done || !self.causes.is_empty();
        let interrupted = self.causes.iter().any(|cause| cause == "interrupted");
        verdict.accepted += usize::from(self.accepted);
        verdict.doubtful += usize::from(!self.accepted);
        verdict.calls += calls.len();
        verdict.done += usize::from(done);
        verdict.dead += usize::from(!self.causes.is_empty());
        verdict.interrupted += usize::from(interrupted);
        verdict.retold += self.told.saturating_sub(1);
        let mut note = |holds: bool, numbers: fn(&mut Verdict) -> &mut Vec<usize>| {
            if holds {
                numbers(verdict).push(number);
            }
        };
        note(self.accepted && !ended, |verdict| &mut verdict.lost);
        // An interrupted message may have succeeded before its worker died: that outcome was lost.
        note(done && !self.causes.is_empty() && !interrupted, |verdict| &mut verdict.both);
        note(self.causes.len() > 1, |verdict| &mut verdict.dead_twice);
        let expected = |cause: &String| self.fate.cause() == Some(cause.as_str()) || cause == "interrupted";
        note(!self.causes.iter().all(expected), |verdict| &mut verdict.astray);
        note(self.wants_callback && ended && self.told == 0, |verdict| &mut verdict.untold);
        let exposed: Vec<bool> = (0..calls.len()).map(|n| is_exposed(&calls, n, faults)).collect();
        verdict.exposed += exposed.iter().filter(|exposed| **exposed).count();
        let ran = |call: &&Entry| {
            let met = |fault: &Fault| fault.from <= call.to && fault.to >= call.from;
            faults.iter().any(|fault| met(fault) && fault.worker.is_none_or(|worker| worker == call.worker))
        };
        verdict.in_flight += calls.iter().filter(ran).count();
        for (n, call) in calls.iter().enumerate() {
            let mut before =
                calls[..n].iter().zip(&exposed).filter(|(other, _)| other.retry == call.retry).peekable();
            let repeated = before.peek().is_some();
            let explained = before.any(|(_, exposed)| *exposed);
            verdict.repeated += usize::from(repeated);
            if repeated && !explained {
                verdict.unexplained.push(number);
            }
            // An attempt before may have found no gateway, and stands in no book: what a fault met of the
            // later ones excuses it too.
            let mut later =
                calls[..n].iter().zip(&exposed).filter(|(other, _)| other.retry > call.retry).peekable();
            if later.peek().is_some() && !explained && !later.any(|(_, exposed)| *exposed) {
                verdict.misordered.push(number);
            }
        }
    }
}

/// Whether a fault met a message from its delivery to the moment when the outcome of this call was stored.
/// What is tried again at once is delivered once and stored with the last try.
fn is_exposed(calls: &[Entry], n: usize, faults: &[Fault]) -> bool {
    let at_once = |call: &Entry, next: &Entry| {
        next.worker == call.worker
            && next.retry == call.retry + 1
            && next.from >= call.to
            && next.from < call.to + AT_ONCE
    };
    let last = calls[n..].iter().fold(&calls[n], |last, next| if at_once(last, next) { next } else { last });
    let first = calls[..n]
        .iter()
        .rev()
        .fold(&calls[n], |first, call| if at_once(call, first) { call } else { first });
    // A broker that is killed forgets that it brought a parked retry back, and brings it once more.
    let parked = calls
        .iter()
        .filter(|call| call.retry + 1 == first.retry && call.to <= first.from)
        .map(|call| call.to)
        .max();
    let met = |fault: &Fault| {
        let before = match fault.worker {
            None => fault.to + WAITING >= first.from || parked.is_some_and(|parked| fault.to >= parked),
            Some(worker) => worker == first.worker && fault.to >= first.from,
        };
        before && fault.from <= last.to + SETTLING
    };
    faults.iter().any(met)
}

impl Verdict {
    /// What must never be, in words; empty when all is well.
    pub fn losses(&self) -> Vec<String> {
        let mut losses = said(&[
            ("lost", &self.lost),
            ("both done and dead", &self.both),
            ("dead twice", &self.dead_twice),
            ("ended astray", &self.astray),
            ("untold", &self.untold),
        ]);
        if self.orphans > 0 {
            losses.push(format!("orphans: {}", self.orphans));
        }
        losses
    }

    /// What no fault in the books explains, in words.
    pub fn surprises(&self) -> Vec<String> {
        said(&[("misordered", &self.misordered), ("repeated without a fault", &self.unexplained)])
    }

    /// The first few messages that something is wrong with.
    pub fn suspects(&self) -> Vec<usize> {
        let lists = [
            &self.lost,
            &self.both,
            &self.dead_twice,
            &self.astray,
            &self.misordered,
            &self.unexplained,
            &self.untold,
        ];
        lists.iter().flat_map(|numbers| numbers.iter().take(3)).copied().collect()
    }
}

fn said(lists: &[(&str, &Vec<usize>)]) -> Vec<String> {
    lists
        .iter()
        .filter(|(_, numbers)| !numbers.is_empty())
        .map(|(what, numbers)| format!("{what}: {numbers:?}"))
        .collect()
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            doubtful,
            calls,
            done,
            dead,
            interrupted,
            repeated,
            in_flight,
            retold,
            orphans,
            ..
        } = self;
        writeln!(f, "     accepted    {accepted} (and {doubtful} whose acknowledgement did not come)")?;
        writeln!(
            f,
            "     calls       {calls}, {repeated} of them repeated ({} without a fault), {in_flight} in \
                flight at the faults",
            self.unexplained.len()
        )?;
        writeln!(f, "     done        {done}")?;
        writeln!(
            f,
            "     dead        {dead} ({interrupted} interrupted, {} astray, {} twice)",
            self.astray.len(),
            self.dead_twice.len()
        )?;
        writeln!(f, "     callbacks   {} untold, {retold} told again", self.untold.len())?;
        write!(
            f,
            "     lost {}, orphans {orphans}, both done and dead {}, misordered {}",
            self.lost.len(),
            self.both.len(),
            self.misordered.len()
        )
    }
}
