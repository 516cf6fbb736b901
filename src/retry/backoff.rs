//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

/// A capped exponential back-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the second attempt.
    pub initial: Duration,
    /// No computed wait is longer.
    pub max: Duration,
    /// How much of the computed wait is left to chance.
    pub jitter: Jitter,
}

/// How much of a wait is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing (`exponential`).
    None,
    /// All of it: uniform in 0–100 % (`full`).
    Full,
    /// Half of it: uniform in 50–100 % (`equal`).
    Equal,
}

impl Backoff {
    /// The wait after `delayed_so_far` waits were already served: `min(max, initial × 2^delayed_so_far)`,
    /// then jitter.
    ///
    /// `draw` is the die, uniform in 0–1; a draw outside of that counts as the nearer end. The result is
    /// never above `max`, and however often a message was delayed, nothing overflows.
    pub fn wait(&self, delayed_so_far: u32, draw: f64) -> Duration {
        let mut wait = self.initial.min(self.max);
        for _ in 0..delayed_so_far {
            // A wait of zero never grows and a full one grows no more, so that this ends after 94 doublings
            // at most.
            if wait.is_zero() || wait == self.max {
                break;
            }
            wait = wait.saturating_mul(2).min(self.max);
        }
        let draw = draw.clamp(0.0, 1.0);
        match self.jitter {
            Jitter::None => wait,
            Jitter::Full => part(wait, draw),
            Jitter::Equal => part(wait, 0.5 + draw / 2.0),
        }
    }
}

/// That share of a wait. Floating point rounds up at the far end and a draw may be no number at all: the wait
/// itself stands in for both, because too patient does less harm than too eager.
fn part(wait: Duration, share: f64) -> Duration {
    Duration::try_from_secs_f64(wait.as_secs_f64() * share).map_or(wait, |part| part.min(wait))
}

/// Reads a `Retry-After` (RFC 9110, section 10.2.3): seconds, or an HTTP date in any of its three forms.
///
/// A date in the past is no wait, more seconds than can be counted are the longest wait there is, and what is
/// neither seconds nor a date is `None`.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits alone fail to parse only when there are too many of them.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backoff(initial: &str, max: &str, jitter: Jitter) -> Backoff {
        let read = |text| humantime::parse_duration(text).unwrap();
        Backoff { initial: read(initial), max: read(max), jitter }
    }

    #[test]
    fn waits_double_from_the_initial_one_up_to_the_maximum() {
        let backoff = backoff("10s", "120s", Jitter::None);
        let waits: Vec<u64> = (0..6).map(|n| backoff.wait(n, 0.7).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 120, 120]);
        assert_eq!(backoff.wait(u32::MAX, 0.7).as_secs(), 120);
    }

    #[test]
    fn an_initial_wait_of_zero_stays_zero() {
        assert_eq!(backoff("0s", "120s", Jitter::None).wait(u32::MAX, 0.5), Duration::ZERO);
    }

    #[test]
    fn an_initial_wait_above_the_maximum_is_cut_to_it() {
        assert_eq!(backoff("5m", "120s", Jitter::None).wait(0, 0.5).as_secs(), 120);
    }

    #[test]
    fn the_smallest_wait_reaches_the_longest_maximum_without_overflow() {
        for jitter in [Jitter::None, Jitter::Full, Jitter::Equal] {
            let backoff = Backoff { initial: Duration::from_nanos(1), max: Duration::MAX, jitter };
            assert_eq!(backoff.wait(u32::MAX, 1.0), Duration::MAX);
        }
    }

    #[test]
    fn jitter_spreads_the_wait_as_its_name_says() {
        let check = |jitter, draw, expected| {
            assert_eq!(
                backoff("10s", "120s", jitter).wait(1, draw).as_secs_f64(),
                expected,
                "{jitter:?} {draw}"
            );
        };
        check(Jitter::None, 0.0, 20.0);
        check(Jitter::Full, 0.0, 0.0);
        check(Jitter::Full, 0.25, 5.0);
        check(Jitter::Full, 1.0, 20.0);
        check(Jitter::Equal, 0.0, 10.0);
        check(Jitter::Equal, 0.5, 15.0);
        check(Jitter::Equal, 1.0, 20.0);
    }

    #[test]
    fn a_draw_outside_its_range_counts_as_the_nearer_end() {
        let full = backoff("10s", "120s", Jitter::Full);
        assert_eq!(full.wait(0, -3.0), full.wait(0, 0.0));
        assert_eq!(full.wait(0, f64::INFINITY), full.wait(0, 1.0));
        assert_eq!(full.wait(0, f64::NAN), full.wait(0, 1.0));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // 784,111,777 is the moment of RFC 9110's own example dates.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let check = |value, seconds: Option<u64>| {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        };
        check("0", Some(0));
        check("120", Some(120));
        check(" 007 ", Some(7));
        check("99999999999999999999999999", Some(u64::MAX));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(30));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(30));
        check("Sun Nov  6 08:49:37 1994", Some(30));
        check("Sat, 06 Nov 1993 08:49:37 GMT", Some(0));
        for garbage in ["", " ", "-1", "+5", "1.5", "5s", "1e3", "soon", "٣", "Sun, 06 Nov 1994", "1, 2"] {
            check(garbage, None);
        }
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0..200_000_u64).prop_map(Duration::from_millis),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        ]
    }

    proptest! {
        #[test]
        fn no_wait_is_above_the_maximum_and_jitter_only_shortens(
            initial in any_duration(), max in any_duration(), delayed in any::<u32>(), draw in any::<f64>(),
        ) {
            let wait = |jitter| Backoff { initial, max, jitter }.wait(delayed, draw);
            let whole = wait(Jitter::None);
            prop_assert!(whole <= max);
            prop_assert!(wait(Jitter::Full) <= whole);
            prop_assert!(wait(Jitter::Equal) <= whole);
            prop_assert!(wait(Jitter::Equal).as_secs_f64() >= whole.as_secs_f64() * 0.499_999 - 1e-9);
        }

        #[test]
        fn without_jitter_the_wait_is_the_formula(
            initial in 0..100_000_u64, max in 0..10_000_000_u64, delayed in 0..40_u32,
        ) {
            let backoff = Backoff {
                initial: Duration::from_millis(initial),
                max: Duration::from_millis(max),
                jitter: Jitter::None,
            };
            let formula = max.min(initial << delayed);
            prop_assert_eq!(backoff.wait(delayed, 0.3), Duration::from_millis(formula));
        }

        #[test]
        fn waits_never_shrink(initial in any_duration(), max in any_duration(), delayed in 0..200_u32) {
            let backoff = Backoff { initial, max, jitter: Jitter::None };
            prop_assert!(backoff.wait(delayed, 0.0) <= backoff.wait(delayed + 1, 0.0));
        }

        #[test]
        fn any_retry_after_can_be_read(value in ".*", seconds in 0..4_000_000_000_u64) {
            let _ = retry_after(&value, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        }

        #[test]
        fn a_written_date_is_read_back(now in 0..4_000_000_000_u64, ahead in 0..4_000_000_000_u64) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let ahead = Duration::from_secs(ahead);
            prop_assert_eq!(retry_after(&httpdate::fmt_http_date(now + ahead), now), Some(ahead));
        }
    }
}
