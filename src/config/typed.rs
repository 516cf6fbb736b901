//! One value as it was typed, and as errors show it.

use super::table::{self, Kind};
use crate::text::line::escaped;

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Typed {
    /// The variable or the flag, in the spelling that was used.
    pub name: String,
    /// The value without the spaces around it; never empty.
    pub text: String,
}

impl Typed {
    /// `name=value` on one line, fit for an error message.
    pub fn shown(&self) -> String {
        let is_secret = table::find(&self.name).is_some_and(|setting| setting.kind == Kind::Secret);
        format!("{}={}", self.name, if is_secret { "***".to_owned() } else { shown(&self.text) })
    }
}

/// What somebody typed, on one line and without credentials.
pub(super) fn shown(text: &str) -> String {
    escaped(&masked(text), |c| c.escape_default().to_string()).into_owned()
}

/// A URL, or several in one text, without user, password, query and fragment.
fn masked(text: &str) -> String {
    let is_scheme = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, text),
    };
    // What stands before the last @ may hold any character, since people forget to encode their passwords.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    match scheme {
        None => format!("{user}{rest}"),
        Some(scheme) => {
            let (rest, query) = match rest.split_once(['?', '#']) {
                Some((rest, _)) => (rest, "?***"),
                None => (rest, ""),
            };
            format!("{scheme}://{user}{rest}{query}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(shown(text), expected, "{text}");
    }

    #[test]
    fn credentials_and_queries_are_never_shown() {
        check("nats://nats:4222", "nats://nats:4222");
        check("nats://u:pw@nats:4222", "nats://***@nats:4222");
        check("u:pw@nats:4222", "***@nats:4222");
        check("nats://u:p@w,/?#x@nats", "nats://***@nats");
        check("nats://a:1@h1,nats://b:2@h2", "nats://***@h2");
        check("u:pw://x@nats", "***@nats");
        check("http://gateway/path?key=secret", "http://gateway/path?***");
        check("http://gateway/#secret", "http://gateway/?***");
        check("a?b", "a?b");
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "--otel-exporter-otlp-headers"] {
            assert_eq!(
                Typed { name: name.to_owned(), text: "a=b".to_owned() }.shown(),
                format!("{name}=***")
            );
        }
    }

    #[test]
    fn a_value_stays_on_one_line() {
        check("a\nb\u{1b}[1m", "a\\nb\\u{1b}[1m");
    }
}
