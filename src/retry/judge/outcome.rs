//! The outcome of a call.

use http::{HeaderMap, HeaderName, StatusCode, header::RETRY_AFTER};

/// What the platform says of an answer.
const INTERNAL: HeaderName = HeaderName::from_static("x-openfaas-internal");
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// The gateway's own 404 begins with these.
const NOT_FOUND: &[u8] = b"error finding function";

/// The outcome of a call, without any judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer came, and was read to its end.
    Replied(Reply),
    /// No answer in time.
    TimedOut,
    /// No connection came about; the text says why in a few words.
    Unreachable(String),
    /// The connection broke off before the end of the answer; the text says why in a few words.
    Broken(String),
}

/// The facts of an answer on which the verdict depends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Whether `X-OpenFaaS-Internal` is present: the platform answered, not the function.
    pub internal: bool,
    /// The value of `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// Whether `X-Call-Id` is present.
    pub has_call_id: bool,
    /// Whether `X-Served-By` is present.
    pub served_by: bool,
    /// Whether the body begins with `error finding function`.
    pub not_found_text: bool,
}

impl Reply {
    /// Takes from an answer what it says; of its body a beginning is enough.
    pub fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        Self {
            status: status.as_u16(),
            internal: headers.contains_key(INTERNAL),
            retry_after: headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned),
            has_call_id: headers.contains_key(CALL_ID),
            served_by: headers.contains_key(SERVED_BY),
            not_found_text: body.starts_with(NOT_FOUND),
        }
    }

    /// Whether this is the gateway's own 404, which it also gives when its provider is away, and not the
    /// function's.
    pub(super) fn is_gateway_not_found(&self) -> bool {
        self.status == 404 && !self.has_call_id && !self.served_by && self.not_found_text
    }
}

impl Outcome {
    /// The answer, if there was one.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Replied(reply) => Some(reply),
            _ => None,
        }
    }

    /// Whether the gateway did not find the function, or could not ask for it.
    pub fn is_gateway_not_found(&self) -> bool {
        self.reply().is_some_and(Reply::is_gateway_not_found)
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.reply().map(|reply| reply.status)
    }

    /// Whether it is what the caller asked for.
    pub fn is_success(&self) -> bool {
        matches!(self.status(), Some(200..=299))
    }

    /// Why the attempt failed, for people who look: a few words, no body and no URL. `None` after a success.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Replied(reply) if !self.is_success() => Some(
                self.reason()
                    .map_or_else(|| format!("the function answered {}", reply.status), str::to_owned),
            ),
            Self::Replied(_) => None,
            Self::TimedOut => Some("no answer in time".to_owned()),
            Self::Unreachable(why) => Some(format!("unreachable: {why}")),
            Self::Broken(why) => Some(format!("broken connection: {why}")),
        }
    }

    /// The facts known of a failure beside its status, or the word in place of one: a few words, no body and
    /// no URL.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::TimedOut => Some("no answer in time"),
            Self::Unreachable(why) | Self::Broken(why) => Some(why),
            Self::Replied(_) if self.is_success() => None,
            Self::Replied(reply) if reply.is_gateway_not_found() => {
                Some("the gateway does not find the function, or cannot ask for it")
            }
            Self::Replied(reply) => reply.internal.then_some("the platform answered, not the function"),
        }
    }

    /// The class of the outcome: one of eight metric labels.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Replied(reply) => match reply.status {
                200..=299 => "success",
                300..=399 => "redirect",
                429 => "throttled",
                400..=499 => "client_error",
                // A status outside of HTTP's five classes is to be taken for a 5xx (RFC 9110, section 15).
                _ => "server_error",
            },
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Broken(_) => "broken",
        }
    }

    /// The outcome in one word, for the history of a message: the status, or what came instead of one.
    pub fn history(&self) -> String {
        self.status().map_or_else(|| self.label().to_owned(), |status| status.to_string())
    }

    /// The status that a callback reports: the function's own, 503 where it could not be reached or the
    /// connection broke, 504 where it did not answer in time.
    pub fn callback_status(&self) -> u16 {
        match self {
            Self::Replied(reply) => reply.status,
            Self::Unreachable(_) | Self::Broken(_) => 503,
            Self::TimedOut => 504,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_in_words_and_numbers() {
        let check = |outcome: Outcome, label, history, callback| {
            assert_eq!((outcome.label(), outcome.history().as_str()), (label, history));
            assert_eq!(outcome.callback_status(), callback);
        };
        let replied = |status| Outcome::Replied(Reply { status, ..Reply::default() });
        check(replied(200), "success", "200", 200);
        check(replied(299), "success", "299", 299);
        check(replied(302), "redirect", "302", 302);
        check(replied(400), "client_error", "400", 400);
        check(replied(404), "client_error", "404", 404);
        check(replied(429), "throttled", "429", 429);
        check(replied(500), "server_error", "500", 500);
        check(replied(599), "server_error", "599", 599);
        check(replied(777), "server_error", "777", 777);
        check(replied(101), "server_error", "101", 101);
        check(Outcome::TimedOut, "timeout", "timeout", 504);
        check(Outcome::Unreachable("connection refused".into()), "unreachable", "unreachable", 503);
        check(Outcome::Broken("connection reset".into()), "broken", "broken", 503);
    }

    #[test]
    fn a_reason_says_what_the_status_does_not() {
        let check =
            |outcome: Outcome, reason: Option<&str>| assert_eq!(outcome.reason(), reason, "{outcome:?}");
        check(Outcome::TimedOut, Some("no answer in time"));
        check(Outcome::Unreachable("connection refused".into()), Some("connection refused"));
        check(Outcome::Broken("connection reset".into()), Some("connection reset"));
        let reply = Reply { status: 500, ..Reply::default() };
        check(Outcome::Replied(reply.clone()), None);
        check(
            Outcome::Replied(Reply { internal: true, ..reply.clone() }),
            Some("the platform answered, not the function"),
        );
        check(Outcome::Replied(Reply { status: 200, internal: true, ..reply.clone() }), None);
        let not_found = Outcome::Replied(Reply { status: 404, not_found_text: true, ..reply });
        check(not_found.clone(), Some("the gateway does not find the function, or cannot ask for it"));
        assert_eq!(not_found.error().as_deref(), not_found.reason());
    }

    #[test]
    fn only_an_answer_has_a_status() {
        assert_eq!(Outcome::Replied(Reply { status: 418, ..Reply::default() }).status(), Some(418));
        assert_eq!(Outcome::TimedOut.status(), None);
    }
}
