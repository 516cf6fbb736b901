//! Failures that are news: the first of each kind since the last success. A function's own answers are its
//! own affair, and none.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::retry::judge::Outcome;

/// How many functions are remembered: callers choose their names.
const FUNCTIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_999);
/// How many kinds of failure of one function are remembered.
const KINDS: usize = 16;
/// Stands for what all functions share, the way to them. No function is called so.
const EVERYBODY: &str = "";

/// The failures of this worker's that are news.
#[derive(Debug, Default)]
pub struct News {
    calls: Firsts,
    posts: Firsts,
}

impl News {
    /// Notes how a call of a function came out, and says whether that is news. A gateway that cannot be
    /// reached is away for all functions, and is news once.
    pub(super) fn of_call(&self, function: &str, outcome: &Outcome) -> bool {
        if let Outcome::Unreachable(_) = outcome {
            return self.calls.note(EVERYBODY, outcome);
        }
        self.calls.forget(EVERYBODY);
        self.calls.note(function, outcome)
    }

    /// Notes how a callback for a function came out, and says whether that is news.
    pub(super) fn of_post(&self, function: &str, outcome: &Outcome) -> bool {
        self.posts.note(function, outcome)
    }
}

/// The kinds of failure of each function since its last success.
struct Firsts(Mutex<LruCache<String, Vec<String>>>);

impl fmt::Debug for Firsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firsts").finish_non_exhaustive()
    }
}

impl Default for Firsts {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(FUNCTIONS)))
    }
}

impl Firsts {
    fn note(&self, function: &str, outcome: &Outcome) -> bool {
        if outcome.is_success() {
            self.forget(function);
            return false;
        }
        let Some(reason) = outcome.reason() else { return false };
        let mut known = self.known();
        let kinds = known.get_or_insert_mut(function.to_owned(), Vec::new);
        let kind = format!("{} {reason}", outcome.history());
        let is_news = kinds.len() < KINDS && !kinds.contains(&kind);
        if is_news {
            kinds.push(kind);
        }
        is_news
    }

    fn forget(&self, function: &str) {
        let mut known = self.known();
        // As a rule there is nothing to look for.
        if !known.is_empty() {
            known.pop(function);
        }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<String, Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::judge::Reply;

    fn status(status: u16) -> Outcome {
        Outcome::Replied(Reply { status, internal: true, ..Reply::default() })
    }

    fn unreachable(why: &str) -> Outcome {
        Outcome::Unreachable(why.to_owned())
    }

    #[test]
    fn the_first_failure_of_its_kind_is_news_until_a_success() {
        let news = News::default();
        let noted: Vec<_> =
            [500, 500, 502, 500, 200, 200, 500, 503].map(|code| news.of_call("f", &status(code))).into();
        assert_eq!(noted, [true, false, true, false, false, false, true, true]);
        assert!(
            news.of_call("g", &status(500))
                && news.of_call("f", &Outcome::TimedOut)
                && !news.of_call("f", &Outcome::TimedOut)
        );
    }

    #[test]
    fn what_a_function_answers_is_no_news() {
        let news = News::default();
        for code in [500, 404, 429, 302] {
            assert!(
                !news.of_call("f", &Outcome::Replied(Reply { status: code, ..Reply::default() })),
                "{code}"
            );
        }
    }

    #[test]
    fn a_gateway_that_is_away_is_news_once_for_all_functions() {
        let news = News::default();
        let refused = || unreachable("Connection refused");
        assert!(
            news.of_call("f", &refused()) && !news.of_call("f", &refused()) && !news.of_call("g", &refused())
        );
        assert!(news.of_call("g", &unreachable("TLS: unknown issuer")) && !news.of_call("f", &refused()));
        assert!(
            news.of_call("g", &Outcome::TimedOut)
                && news.of_call("g", &refused())
                && !news.of_call("g", &Outcome::TimedOut)
        );
    }

    #[test]
    fn calls_and_callbacks_are_news_apart() {
        let news = News::default();
        assert!(
            news.of_call("f", &Outcome::TimedOut)
                && news.of_post("f", &Outcome::TimedOut)
                && !news.of_post("f", &Outcome::TimedOut)
        );
        assert!(
            news.of_post("f", &unreachable("x")) && news.of_post("g", &unreachable("x")),
            "each receiver is another one"
        );
        assert!(!news.of_call("f", &status(200)) && !news.of_post("f", &Outcome::TimedOut));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let news = News::default();
        let kinds = (300..600).filter(|code| news.of_call("f", &status(*code))).count();
        assert_eq!(kinds, KINDS);
        for n in 0..3_000 {
            news.of_call(&format!("f{n}"), &Outcome::TimedOut);
        }
        assert_eq!(news.calls.known().len(), FUNCTIONS.get());
    }
}
