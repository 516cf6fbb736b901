//! The calls that run in this process, for whoever asks, and those that somebody cancelled. What is told of
//! each is the caller's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use slab::Slab;
use tokio::sync::Notify;

/// The calls of a queue. Cheap to clone; the clones agree.
#[derive(Debug)]
pub struct Calls<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    known: Mutex<Known<T>>,
    /// Somebody cancelled calls: each looks whether it was meant. That is rare, and calls are many.
    cancelled: Notify,
}

#[derive(Debug)]
struct Known<T> {
    running: Slab<Running<T>>,
    /// By call id: those that arrived before the mark are not to run.
    marks: HashMap<String, Mark>,
}

#[derive(Debug)]
struct Running<T> {
    call_id: Arc<str>,
    /// Its id in another form, where that is another text.
    also: Option<String>,
    since: SystemTime,
    told: T,
    is_cancelled: bool,
}

/// Somebody cancelled the calls of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When, by the broker's clock: calls that arrive later are others.
    pub at: SystemTime,
    /// Who, and why, in a few words.
    pub why: String,
}

impl<T> Known<T> {
    fn running(&self) -> impl Iterator<Item = &Running<T>> {
        self.running.iter().map(|(_, running)| running)
    }
}

impl<T> Running<T> {
    fn ids(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.call_id), self.also.as_deref()].into_iter().flatten()
    }

    /// The mark by which it is not to run.
    fn marked<'m>(&self, marks: &'m HashMap<String, Mark>) -> Option<&'m Mark> {
        self.ids().filter_map(|id| marks.get(id)).find(|mark| self.since <= mark.at)
    }
}

impl<T> Clone for Calls<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        let known = Mutex::new(Known { running: Slab::new(), marks: HashMap::new() });
        Self(Arc::new(Shared { known, cancelled: Notify::new() }))
    }
}

impl<T> Calls<T> {
    fn known(&self) -> MutexGuard<'_, Known<T>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls of this id that arrived before the mark end, and do not begin.
    pub fn mark(&self, call_id: &str, mark: Mark) {
        let mut known = self.known();
        let mut is_meant = false;
        for (_, running) in &mut known.running {
            if running.since <= mark.at && running.ids().any(|id| id == call_id) {
                (running.is_cancelled, is_meant) = (true, true);
            }
        }
        let latest = known.marks.get(call_id).is_none_or(|before| before.at < mark.at);
        if latest {
            known.marks.insert(call_id.to_owned(), mark);
        }
        drop(known);
        if is_meant {
            self.0.cancelled.notify_waiters();
        }
    }

    /// Forgets marks that are older.
    pub fn forget(&self, before: SystemTime) {
        self.known().marks.retain(|_, mark| mark.at >= before);
    }

    /// One more runs, until the guard is dropped; it arrived `since`. Its id may be asked for in the form
    /// `also`, too.
    #[must_use = "the call counts as ended when the guard is dropped"]
    pub fn begin(&self, call_id: Arc<str>, also: &str, since: SystemTime, told: T) -> Begun<T> {
        let also = (*also != *call_id).then(|| also.to_owned());
        let mut running = Running { call_id, also, since, told, is_cancelled: false };
        let mut known = self.known();
        running.is_cancelled = running.marked(&known.marks).is_some();
        let place = known.running.insert(running);
        Begun { calls: self.clone(), place }
    }

    /// What is told of those with this id: callers may have given it to several.
    pub fn of<R>(&self, call_id: &str, tell: impl Fn(&T) -> R) -> Vec<R> {
        let known = self.known();
        let of_id = known.running().filter(|running| running.ids().any(|id| id == call_id));
        of_id.map(|running| tell(&running.told)).collect()
    }
}

/// A call that runs, or is about to.
#[derive(Debug)]
pub struct Begun<T> {
    calls: Calls<T>,
    place: usize,
}

impl<T> Begun<T> {
    /// Whether somebody cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.calls.known().running.get(self.place).is_some_and(|running| running.is_cancelled)
    }

    /// Returns when somebody cancels it.
    pub async fn cancelled(&self) {
        loop {
            // Made before the look: whoever comes in between is heard.
            let cancelled = self.calls.0.cancelled.notified();
            if self.is_cancelled() {
                return;
            }
            cancelled.await;
        }
    }

    /// Who cancelled it, and why.
    pub fn why(&self) -> Option<String> {
        let known = self.calls.known();
        known.running.get(self.place)?.marked(&known.marks).map(|mark| mark.why.clone())
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        self.calls.known().running.try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn mark(seconds: u64) -> Mark {
        Mark { at: at(seconds), why: format!("at {seconds}") }
    }

    #[test]
    fn calls_are_known_while_they_run_however_many_have_an_id() {
        let calls = Calls::default();
        let first = calls.begin("a".into(), "a", at(1), 1);
        let second = calls.begin("a".into(), "a", at(1), 2);
        let _other = calls.clone().begin("b".into(), "b", at(1), 3);
        let of = |id| calls.of(id, |n| *n);
        let mut known = of("a");
        known.sort_unstable();
        assert_eq!((known, of("c")), (vec![1, 2], vec![]));
        drop(first);
        assert_eq!(of("a"), [2]);
        drop(second);
        assert_eq!((of("a"), of("b")), (vec![], vec![3]));
    }

    #[test]
    fn a_mark_ends_calls_that_arrived_before_it_and_no_others() {
        let calls = Calls::default();
        let before = calls.begin("a".into(), "a", at(5), ());
        let other = calls.begin("b".into(), "b", at(5), ());
        let later = calls.begin("a".into(), "a", at(11), ());
        calls.mark("a", mark(10));
        assert_eq!([&before, &other, &later].map(Begun::is_cancelled), [true, false, false]);
        assert_eq!((before.why().as_deref(), other.why()), (Some("at 10"), None));
        // One that was waiting then, and one that a caller makes with the same id afterwards.
        assert!(
            calls.begin("a".into(), "a", at(9), ()).is_cancelled()
                && !calls.begin("a".into(), "a", at(12), ()).is_cancelled()
        );
        // An older mark that is read again takes nothing back.
        calls.mark("a", mark(3));
        assert!(calls.begin("a".into(), "a", at(9), ()).is_cancelled());
        // One of several whose ids are the same in the other form.
        let [long, twin] = ["xy", "xz"].map(|id| calls.begin(id.into(), "x", at(5), ()));
        calls.mark("xy", mark(10));
        assert_eq!([&long, &twin].map(Begun::is_cancelled), [true, false]);
        assert_eq!((calls.of("x", |()| 1).len(), calls.of("xz", |()| 1).len()), (2, 1));
        calls.mark("x", mark(10));
        assert!(twin.is_cancelled() && twin.why().is_some());
        calls.forget(at(11));
        assert!(!calls.begin("a".into(), "a", at(9), ()).is_cancelled());
    }

    #[test]
    fn one_that_is_cancelled_ends_and_those_beside_it_go_on_and_still_listen() {
        let calls = Calls::default();
        // Each is looked at only when it is woken.
        let mut ended: FuturesUnordered<_> = ["a", "b"]
            .into_iter()
            .map(|id| (id, calls.begin(id.into(), id, at(5), ())))
            .map(|(id, begun)| async move {
                begun.cancelled().await;
                id
            })
            .collect();
        assert_eq!(ended.next().now_or_never(), None);
        for id in ["a", "b"] {
            calls.mark(id, mark(10));
            assert_eq!(ended.next().now_or_never(), Some(Some(id)));
            assert_eq!(ended.next().now_or_never().flatten(), None);
        }
    }
}
