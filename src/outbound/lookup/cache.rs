//! The known annotations of functions, and the decision when to ask the gateway. It takes `now` as an
//! argument and does no I/O.

use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use tokio::time::Instant;

use super::Annotations;

/// The most functions that are remembered. The one that was not called for longest is forgotten first.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// The age of a look-up at which calls stop waiting for it. A gateway answers within milliseconds. A slower
/// one is not worth a delay, because the worker's own policy will do.
const PATIENCE: Duration = Duration::from_millis(500);
/// The time until the next question after a failure, if answers are not good for less.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A look-up of this age has ended without a report.
const LOST: Duration = Duration::from_secs(60);

/// The next step of a call that needs a function's annotations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on with these, if there are any.
    Settled(Option<Annotations>),
    /// Step the function up, and wait for the answer until this moment at most.
    Begin(Instant),
    /// Wait for the look-up of another call, until this moment at most.
    Join(Instant),
}

/// The answers of the gateway, by the names of the functions.
#[derive(Debug)]
pub(super) struct Cache {
    functions: LruCache<String, Entry>,
    ttl: Duration,
}

#[derive(Debug)]
struct Entry {
    /// The last answer, however old. It is kept when later look-ups fail.
    annotations: Option<Annotations>,
    /// The moment until which nobody asks again.
    settled_until: Instant,
    /// The beginning of the look-up that is under way.
    asking: Option<Instant>,
}

impl Cache {
    /// A cache of answers that are good for `ttl`.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { functions: LruCache::new(MOST), ttl }
    }

    /// Decides what a call at `now` does. After [`Step::Begin`] the function counts as being looked up.
    pub(super) fn look(&mut self, function: &str, now: Instant) -> Step {
        let Some(entry) = self.functions.get_mut(function) else {
            let entry = Entry { annotations: None, settled_until: now, asking: Some(now) };
            self.functions.put(function.to_owned(), entry);
            return Step::Begin(now + PATIENCE);
        };
        match entry.asking {
            Some(since) if now < since + PATIENCE => Step::Join(since + PATIENCE),
            Some(since) if now < since + LOST => Step::Settled(entry.annotations.clone()),
            None if now < entry.settled_until => Step::Settled(entry.annotations.clone()),
            _ => {
                entry.asking = Some(now);
                Step::Begin(now + PATIENCE)
            }
        }
    }

    /// Notes how a look-up ended. One that failed leaves what was known.
    pub(super) fn ended(&mut self, function: &str, answer: Option<Annotations>, now: Instant) {
        // A function that was forgotten meanwhile is no longer called often.
        let Some(entry) = self.functions.peek_mut(function) else { return };
        entry.settled_until = now + if answer.is_some() { self.ttl } else { self.ttl.min(AFTER_FAILURE) };
        entry.asking = None;
        entry.annotations = answer.or(entry.annotations.take());
    }

    /// Whether a look-up of the function is under way.
    pub(super) fn is_asking(&self, function: &str) -> bool {
        self.functions.peek(function).is_some_and(|entry| entry.asking.is_some())
    }

    /// The known annotations of the function.
    pub(super) fn known(&self, function: &str) -> Option<Annotations> {
        self.functions.peek(function).and_then(|entry| entry.annotations.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn attempts(number: &str) -> Annotations {
        Annotations::from([("com.openfaas.retry.attempts".to_owned(), number.to_owned())])
    }

    fn known(number: &str) -> Step {
        Step::Settled(Some(attempts(number)))
    }

    /// A cache that was told at `now` that `f` has so many attempts.
    fn told(number: &str, now: Instant) -> Cache {
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Step::Begin(now + PATIENCE));
        cache.ended("f", Some(attempts(number)), now);
        cache
    }

    #[test]
    fn an_answer_is_used_until_it_is_too_old() {
        let now = Instant::now();
        let mut cache = told("2", now);
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!(cache.look("f", now + TTL - SECOND), known("2"));
        assert_eq!(cache.look("f", now + TTL), Step::Begin(now + TTL + PATIENCE));
        cache.ended("f", Some(attempts("3")), now + TTL);
        assert_eq!(cache.look("f", now + TTL), known("3"));
    }

    #[test]
    fn one_look_up_of_a_function_is_waited_for_by_all_and_by_none_for_long() {
        let now = Instant::now();
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Step::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + PATIENCE / 2), Step::Join(now + PATIENCE));
        assert_eq!(cache.look("g", now), Step::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + PATIENCE), Step::Settled(None));
        assert!(cache.is_asking("f"));
        cache.ended("f", Some(attempts("2")), now + 2 * SECOND);
        assert!(!cache.is_asking("f"));
        assert_eq!((cache.look("f", now + 2 * SECOND), cache.known("f")), (known("2"), Some(attempts("2"))));
    }

    #[test]
    fn while_an_old_answer_is_asked_for_again_it_stands() {
        let now = Instant::now();
        let mut cache = told("2", now);
        assert_eq!(cache.look("f", now + TTL), Step::Begin(now + TTL + PATIENCE));
        assert_eq!(cache.look("f", now + TTL + PATIENCE), known("2"));
    }

    #[test]
    fn a_failure_keeps_the_old_answer_and_is_followed_by_a_pause() {
        let now = Instant::now();
        let mut cache = told("2", now);
        let later = now + TTL;
        assert_eq!(cache.look("f", later), Step::Begin(later + PATIENCE));
        cache.ended("f", None, later);
        assert_eq!(cache.look("f", later + AFTER_FAILURE - SECOND), known("2"));
        assert_eq!(cache.look("f", later + AFTER_FAILURE), Step::Begin(later + AFTER_FAILURE + PATIENCE));

        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("new", now), Step::Begin(now + PATIENCE));
        cache.ended("new", None, now);
        assert_eq!(cache.look("new", now), Step::Settled(None));
    }

    #[test]
    fn the_pause_is_never_longer_than_answers_are_good_for() {
        let now = Instant::now();
        let mut cache = Cache::new(SECOND);
        assert_eq!(cache.look("f", now), Step::Begin(now + PATIENCE));
        cache.ended("f", None, now);
        assert_eq!(cache.look("f", now + SECOND), Step::Begin(now + SECOND + PATIENCE));
    }

    #[test]
    fn a_look_up_that_never_reports_is_made_again() {
        let now = Instant::now();
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Step::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + LOST - SECOND), Step::Settled(None));
        assert_eq!(cache.look("f", now + LOST), Step::Begin(now + LOST + PATIENCE));
    }

    #[test]
    fn the_functions_that_were_not_called_for_longest_are_forgotten() {
        let now = Instant::now();
        let mut cache = told("2", now);
        for n in 1..MOST.get() {
            assert_eq!(cache.look(&n.to_string(), now), Step::Begin(now + PATIENCE));
        }
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!(cache.look("one-more", now), Step::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!((cache.functions.len(), cache.is_asking("1")), (10_000, false));
        cache.ended("1", Some(attempts("3")), now);
        assert_eq!((cache.functions.len(), cache.known("1")), (10_000, None));
    }
}
