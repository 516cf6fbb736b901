//! How often, how soon and on which statuses an invocation is tried again: the worker's settings, and over
//! them the annotations of the function.

mod codes;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use crate::{
    retry::backoff::Backoff,
    text::{duration, line::cut},
};

pub use codes::{InvalidStatusCodes, StatusCodes};

/// The beginning of the keys of the annotations that are read here.
pub const ANNOTATIONS: &str = "com.openfaas.retry.";
/// The most attempts that an annotation may ask for.
const MOST_ATTEMPTS: u32 = 1_000;
/// How much of a wrong annotation is shown, in bytes.
const SHOWN: usize = 64;

/// How an invocation is retried.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// How often a message is tried, the first time included; at least 1.
    pub max_attempts: u32,
    /// The statuses that are retried.
    pub codes: StatusCodes,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Extra tries at once, in place, before each wait.
    pub immediate_retries: u32,
    /// The longest `Retry-After` that is honoured.
    pub max_retry_after: Duration,
    /// An invocation older than this is not tried any more.
    pub max_message_age: Option<Duration>,
}

/// An annotation that cannot be used: the worker's own setting stands in for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key} is {value:?}: {expected}")]
pub struct InvalidAnnotation {
    /// The annotation's key.
    pub key: &'static str,
    /// Its value without control characters, at most 64 bytes of it.
    pub value: String,
    /// The form that was expected.
    pub expected: String,
}

impl RetryPolicy {
    /// This policy, with what the function's annotations change of it, and the annotations that could not be
    /// read.
    ///
    /// The keys are those of OpenFaaS: `com.openfaas.retry.attempts`, `.codes`, `.min_wait` and `.max_wait`.
    pub fn for_annotations(&self, annotations: &BTreeMap<String, String>) -> (Self, Vec<InvalidAnnotation>) {
        let mut policy = self.clone();
        let readings = [
            read(annotations, "com.openfaas.retry.attempts", attempts, &mut policy.max_attempts),
            read(annotations, "com.openfaas.retry.codes", StatusCodes::from_str, &mut policy.codes),
            read(annotations, "com.openfaas.retry.min_wait", duration::parse, &mut policy.backoff.initial),
            read(annotations, "com.openfaas.retry.max_wait", duration::parse, &mut policy.backoff.max),
        ];
        (policy, readings.into_iter().filter_map(Result::err).collect())
    }

    /// A wait that was asked for, within the bounds. Where the two cross, the lower one holds: it is there to
    /// spare whoever answers.
    pub fn heeded(&self, asked: Duration) -> Duration {
        asked.min(self.max_retry_after).max(self.backoff.initial)
    }

    /// Whether an invocation of this age is not tried any more.
    pub fn is_expired(&self, age: Duration) -> bool {
        self.max_message_age.is_some_and(|oldest| age > oldest)
    }
}

/// Puts what an annotation says, where there is one, in the place of the worker's setting.
fn read<T, E: fmt::Display>(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    setting: &mut T,
) -> Result<(), InvalidAnnotation> {
    let Some(value) = annotations.get(key) else {
        return Ok(());
    };
    *setting = parse(value.trim()).map_err(|expected| InvalidAnnotation {
        key,
        value: shown(value),
        expected: expected.to_string(),
    })?;
    Ok(())
}

/// Reads how often a message is tried. Zero is what people write to say "no retry", which is one attempt.
fn attempts(value: &str) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(number) if number <= MOST_ATTEMPTS => Ok(number.max(1)),
        _ => Err(format!("expected a whole number from 0 to {MOST_ATTEMPTS}")),
    }
}

/// As much of a value as may stand in a log line.
fn shown(value: &str) -> String {
    cut(&value.replace(char::is_control, ""), SHOWN).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::retry::backoff::Jitter;

    fn worker() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 10,
            codes: "429,502,500,504,408".parse().unwrap(),
            backoff: Backoff {
                initial: Duration::from_secs(10),
                max: Duration::from_secs(120),
                jitter: Jitter::Full,
            },
            immediate_retries: 2,
            max_retry_after: Duration::from_secs(3600),
            max_message_age: Some(Duration::from_secs(86_400)),
        }
    }

    fn annotated(pairs: &[(&str, &str)]) -> (RetryPolicy, Vec<InvalidAnnotation>) {
        let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        worker().for_annotations(&annotations)
    }

    #[test]
    fn an_invocation_expires_past_its_greatest_age_and_not_at_it() {
        let check = |max_message_age, age, expected| {
            assert_eq!(RetryPolicy { max_message_age, ..worker() }.is_expired(age), expected, "{age:?}");
        };
        let (second, moment) = (Duration::from_secs(1), Duration::from_nanos(1));
        check(Some(second), second, false);
        check(Some(second), second + moment, true);
        check(Some(Duration::ZERO), Duration::ZERO, false);
        check(Some(Duration::ZERO), moment, true);
        check(None, Duration::MAX, false);
    }

    #[test]
    fn without_annotations_the_worker_s_policy_holds() {
        assert_eq!(annotated(&[]), (worker(), vec![]));
        assert_eq!(
            annotated(&[("com.openfaas.queue", "slow"), ("com.openfaas.retry", "5")]),
            (worker(), vec![])
        );
    }

    #[test]
    fn each_annotation_changes_its_own_setting() {
        let (policy, invalid) = annotated(&[
            ("com.openfaas.retry.attempts", "30"),
            ("com.openfaas.retry.codes", "418, 500-502"),
            ("com.openfaas.retry.min_wait", " 500ms "),
            ("com.openfaas.retry.max_wait", "1m10s"),
        ]);
        let mut expected = worker();
        expected.max_attempts = 30;
        expected.codes = "418,500-502".parse().unwrap();
        expected.backoff.initial = Duration::from_millis(500);
        expected.backoff.max = Duration::from_secs(70);
        assert_eq!((policy, invalid), (expected, vec![]));
    }

    #[test]
    fn attempts_of_zero_and_one_are_one_attempt() {
        let check = |value, attempts| {
            let (policy, invalid) = annotated(&[("com.openfaas.retry.attempts", value)]);
            assert_eq!((policy.max_attempts, invalid), (attempts, vec![]), "{value}");
        };
        check("0", 1);
        check("1", 1);
        check("2", 2);
        check("1000", 1000);
    }

    #[test]
    fn an_invalid_annotation_falls_back_to_the_worker_s_and_is_named() {
        let check = |key: &str, value: &str| {
            let (policy, invalid) = annotated(&[(key, value)]);
            assert_eq!(policy, worker(), "{key} {value:?}");
            assert_eq!(invalid.len(), 1, "{key} {value:?}");
            assert_eq!((invalid[0].key, invalid[0].value.as_str()), (key, value));
            assert!(invalid[0].expected.starts_with("expected "), "{}", invalid[0].expected);
        };
        for value in ["", "1001", "-1", "ten", "1.5", "99999999999"] {
            check("com.openfaas.retry.attempts", value);
        }
        for value in ["", "5xx", "600"] {
            check("com.openfaas.retry.codes", value);
        }
        for value in ["", "10", "-1s", "1d", "1M", "soon", "99999999999999999999h"] {
            check("com.openfaas.retry.min_wait", value);
            check("com.openfaas.retry.max_wait", value);
        }
    }

    #[test]
    fn one_invalid_annotation_does_not_spoil_the_others() {
        let (policy, invalid) =
            annotated(&[("com.openfaas.retry.attempts", "many"), ("com.openfaas.retry.codes", "503")]);
        assert_eq!((policy.max_attempts, policy.codes.to_string().as_str()), (10, "503"));
        assert_eq!(
            invalid[0].to_string(),
            r#"annotation com.openfaas.retry.attempts is "many": expected a whole number from 0 to 1000"#
        );
    }

    #[test]
    fn a_wrong_value_is_shown_short_and_in_one_line() {
        let (_, invalid) = annotated(&[("com.openfaas.retry.codes", &format!("a\r\nb\0{}", "é".repeat(99)))]);
        assert_eq!(invalid[0].value, format!("ab{}", "é".repeat(31)));
    }

    proptest! {
        #[test]
        fn any_annotations_leave_a_usable_policy(
            values in prop::collection::vec(prop_oneof![".*", "[0-9]{1,5}", "[0-9.]{1,4}(ms|s|m|h)"], 4),
        ) {
            let keys = ["attempts", "codes", "min_wait", "max_wait"];
            let keys = keys.map(|key| format!("com.openfaas.retry.{key}"));
            let (policy, invalid) = worker().for_annotations(&keys.into_iter().zip(values).collect());
            prop_assert!((1..=MOST_ATTEMPTS).contains(&policy.max_attempts));
            for annotation in invalid {
                prop_assert!(annotation.value.len() <= SHOWN && !annotation.value.contains(char::is_control));
            }
        }
    }
}
