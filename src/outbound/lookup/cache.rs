//! What is known about functions, and when the gateway is to be asked. Decides, with `now` as an argument,
//! and does nothing.

use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use tokio::time::Instant;

use super::Annotations;

/// So many functions are remembered; of more, those that were not called for longest are forgotten.
const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// No call waits longer for a look-up than until the look-up is so old. A gateway answers within
/// milliseconds; one that does not is not worth a delay, because the worker's own policy will do.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a failure the gateway is left in peace for so long, or for the time that answers are good for if
/// that is less.
const PAUSE: Duration = Duration::from_secs(5);
/// A look-up of this age has ended without a report.
const LOST: Duration = Duration::from_secs(60);

/// What a call that wants to know about a function is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Go on with this, if it is anything.
    Settled(Option<Annotations>),
    /// Look the function up, and wait for that until then at most.
    Begin(Instant),
    /// Somebody does; wait for that until then at most.
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
    /// Until then nobody asks again.
    settled_until: Instant,
    /// When the look-up began that is under way.
    asking: Option<Instant>,
}

impl Cache {
    /// A cache of answers that are good for `ttl`.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { functions: LruCache::new(MOST), ttl }
    }

    /// Decides what a call at `now` does. After [`Look::Begin`] the function counts as being looked up.
    pub(super) fn look(&mut self, function: &str, now: Instant) -> Look {
        let Some(entry) = self.functions.get_mut(function) else {
            let entry = Entry { annotations: None, settled_until: now, asking: Some(now) };
            self.functions.put(function.to_owned(), entry);
            return Look::Begin(now + PATIENCE);
        };
        match entry.asking {
            Some(since) if now < since + PATIENCE => Look::Join(since + PATIENCE),
            Some(since) if now < since + LOST => Look::Settled(entry.annotations.clone()),
            None if now < entry.settled_until => Look::Settled(entry.annotations.clone()),
            _ => {
                entry.asking = Some(now);
                Look::Begin(now + PATIENCE)
            }
        }
    }

    /// Notes how a look-up ended. One that failed leaves what was known.
    pub(super) fn ended(&mut self, function: &str, answer: Option<Annotations>, now: Instant) {
        // A function that was forgotten meanwhile is no longer called often.
        let Some(entry) = self.functions.peek_mut(function) else { return };
        entry.settled_until = now + if answer.is_some() { self.ttl } else { self.ttl.min(PAUSE) };
        entry.asking = None;
        entry.annotations = answer.or(entry.annotations.take());
    }

    /// Whether a look-up of the function is under way.
    pub(super) fn is_asking(&self, function: &str) -> bool {
        self.functions.peek(function).is_some_and(|entry| entry.asking.is_some())
    }

    /// What is known of the function.
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

    fn known(number: &str) -> Look {
        Look::Settled(Some(attempts(number)))
    }

    /// A cache that was told at `now` that `f` has so many attempts.
    fn told(number: &str, now: Instant) -> Cache {
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Look::Begin(now + PATIENCE));
        cache.ended("f", Some(attempts(number)), now);
        cache
    }

    #[test]
    fn an_answer_is_used_until_it_is_too_old() {
        let now = Instant::now();
        let mut cache = told("2", now);
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!(cache.look("f", now + TTL - SECOND), known("2"));
        assert_eq!(cache.look("f", now + TTL), Look::Begin(now + TTL + PATIENCE));
        cache.ended("f", Some(attempts("3")), now + TTL);
        assert_eq!(cache.look("f", now + TTL), known("3"));
    }

    #[test]
    fn one_look_up_of_a_function_is_waited_for_by_all_and_by_none_for_long() {
        let now = Instant::now();
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Look::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + PATIENCE / 2), Look::Join(now + PATIENCE));
        assert_eq!(cache.look("g", now), Look::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + PATIENCE), Look::Settled(None));
        assert!(cache.is_asking("f"));
        cache.ended("f", Some(attempts("2")), now + 2 * SECOND);
        assert!(!cache.is_asking("f"));
        assert_eq!((cache.look("f", now + 2 * SECOND), cache.known("f")), (known("2"), Some(attempts("2"))));
    }

    #[test]
    fn while_an_old_answer_is_asked_for_again_it_stands() {
        let now = Instant::now();
        let mut cache = told("2", now);
        assert_eq!(cache.look("f", now + TTL), Look::Begin(now + TTL + PATIENCE));
        assert_eq!(cache.look("f", now + TTL + PATIENCE), known("2"));
    }

    #[test]
    fn a_failure_keeps_the_old_answer_and_is_followed_by_a_pause() {
        let now = Instant::now();
        let mut cache = told("2", now);
        let later = now + TTL;
        assert_eq!(cache.look("f", later), Look::Begin(later + PATIENCE));
        cache.ended("f", None, later);
        assert_eq!(cache.look("f", later + PAUSE - SECOND), known("2"));
        assert_eq!(cache.look("f", later + PAUSE), Look::Begin(later + PAUSE + PATIENCE));

        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("new", now), Look::Begin(now + PATIENCE));
        cache.ended("new", None, now);
        assert_eq!(cache.look("new", now), Look::Settled(None));
    }

    #[test]
    fn the_pause_is_never_longer_than_answers_are_good_for() {
        let now = Instant::now();
        let mut cache = Cache::new(SECOND);
        assert_eq!(cache.look("f", now), Look::Begin(now + PATIENCE));
        cache.ended("f", None, now);
        assert_eq!(cache.look("f", now + SECOND), Look::Begin(now + SECOND + PATIENCE));
    }

    #[test]
    fn a_look_up_that_never_reports_is_made_again() {
        let now = Instant::now();
        let mut cache = Cache::new(TTL);
        assert_eq!(cache.look("f", now), Look::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now + LOST - SECOND), Look::Settled(None));
        assert_eq!(cache.look("f", now + LOST), Look::Begin(now + LOST + PATIENCE));
    }

    #[test]
    fn the_functions_that_were_not_called_for_longest_are_forgotten() {
        let now = Instant::now();
        let mut cache = told("2", now);
        for n in 1..MOST.get() {
            assert_eq!(cache.look(&n.to_string(), now), Look::Begin(now + PATIENCE));
        }
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!(cache.look("one-more", now), Look::Begin(now + PATIENCE));
        assert_eq!(cache.look("f", now), known("2"));
        assert_eq!((cache.functions.len(), cache.is_asking("1")), (10_000, false));
        cache.ended("1", Some(attempts("3")), now);
        assert_eq!((cache.functions.len(), cache.known("1")), (10_000, None));
    }
}
