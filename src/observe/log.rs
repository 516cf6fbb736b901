//! The log. The lines about calls have their words and field names here, because people grep for them and
//! machines parse them.
//!
//! An event is one line on stderr. The names of the first three are those of OpenFaaS's own workers, so that
//! saved searches and dashboards go on working. No body and no header value is ever logged, and no URL with
//! its query or credentials: see [`loggable`].

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use tracing::{Value, error, info, warn};
use tracing_subscriber::layer::SubscriberExt;
use url::Url;

use crate::{
    config,
    message::decode::EventName,
    retry::judge::Outcome,
    tasks::supervisor::{Part, Supervisor, spoiled},
};
use buffer::Buffer;
use line::Line;

mod buffer;
mod event;
mod levels;
mod line;

/// The most bytes of lines that wait for a slow reader.
const CAPACITY: usize = 1 << 20;

/// The time that the exit waits for a stalled reader.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);

/// The time that a panic waits for its line to be written. The program may be about to abort, or may have
/// other calls to go on with.
const PANIC_PATIENCE: Duration = Duration::from_millis(100);

/// Writes the remaining lines when it is dropped, within a second. Lines logged after that are lost,
/// so it is the first thing that `main` makes and the last that it drops.
#[must_use = "lines logged after the guard is dropped are lost"]
pub struct Guard(Arc<Buffer>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(EXIT_PATIENCE);
    }
}

/// Starts logging to stderr, and logs panics too: their place, but not their text, which may quote a message.
///
/// `RUST_LOG` decides the levels when it is set; else they are `info` (async_nats: `warn`, less what the
/// connection says itself), or `debug` for everything.
///
/// # Errors
///
/// When the system refuses one more thread: a worker whose log goes nowhere should not start.
pub fn init(log: &config::Log, supervisor: &Supervisor) -> io::Result<Guard> {
    let line = Line {
        encoding: log.encoding,
        colour: log.encoding == config::Encoding::Console && io::stderr().is_terminal(),
    };
    let buffer = Arc::new(Buffer::new(CAPACITY));
    let guard = Guard(Arc::clone(&buffer));
    let (drained, closed) = (Arc::clone(&buffer), Arc::clone(&buffer));
    let drain = move || {
        drained.drain(spoiled(Part::Log, io::stderr()), |missing| {
            line.warning("Log lines dropped", "lines", missing)
        })
    };
    supervisor.thread(Part::Log, move || closed.is_closed(), drain)?;

    let usual = match log.debug {
        true => "debug",
        false => "info,async_nats=warn,async_nats::connector=off",
    };
    let (levels, refused) = levels::of(std::env::var("RUST_LOG").ok().as_deref(), usual);
    let lines = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&buffer)).event_format(line);
    let subscriber = tracing_subscriber::registry().with(lines).with(levels);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(move |panic| {
            let location = panic.location().map(ToString::to_string);
            error!(location, "Panic");
            buffer.flush(PANIC_PATIENCE);
        }));
    }
    if refused {
        warn!("RUST_LOG is not understood and not used");
    }
    Ok(guard)
}

/// A call is about to be made. `delivery` is the number of the attempt from 1; `url` is [`loggable`]. A call
/// that sends an event on is told by the names of the event, too.
pub fn invoke(
    call_id: &str,
    function: &str,
    delivery: u32,
    bytes: usize,
    url: &str,
    event: Option<&EventName>,
) {
    let (event_id, source) = event::told(event);
    info!(
        callId = call_id,
        function,
        delivery,
        bytes,
        url,
        eventId = event_id,
        eventSource = source.as_deref(),
        "Invoke"
    );
}

/// A call ended. Its status is HTTP's, or a word when there was none: `timeout`, `unreachable`, `broken`. One
/// that is `news` stands out.
pub fn invoked(
    call_id: &str,
    function: &str,
    delivery: u32,
    outcome: &Outcome,
    duration: Duration,
    news: bool,
) {
    let (duration, reason) = (duration.as_secs_f64(), outcome.reason());
    with_status(outcome, |status| match news {
        true => warn!(callId = call_id, function, delivery, status, duration, reason, "Invoked"),
        false => info!(callId = call_id, function, delivery, status, duration, reason, "Invoked"),
    });
}

/// A callback was posted, and its answer has this status, or there was none. `url` is [`loggable`]. One that
/// is `news` stands out.
pub fn posted_result(call_id: &str, function: &str, url: &str, outcome: &Outcome, news: bool) {
    let reason = outcome.reason();
    with_status(outcome, |status| match news {
        true => warn!(callId = call_id, function, url, status, reason, "Posted result"),
        false => info!(callId = call_id, function, url, status, reason, "Posted result"),
    });
}

/// The next try after a failure.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a> {
    /// The number of the try that failed, from 1.
    pub delivery: u32,
    /// The most tries.
    pub max_attempts: u32,
    /// The wait until the next one; logged in seconds.
    pub wait: Duration,
    /// The moment of the next one, in RFC 3339.
    pub at: &'a str,
    /// The outcome of the try that failed.
    pub outcome: &'a Outcome,
}

/// A callback failed and another try is parked.
pub fn callback_scheduled(call_id: &str, function: &str, next: &Next<'_>) {
    let Next { delivery, max_attempts, wait, at, outcome } = *next;
    let (wait, reason) = (wait.as_secs_f64(), outcome.reason());
    with_status(outcome, |status| {
        warn!(
            callId = call_id,
            function,
            delivery,
            maxAttempts = max_attempts,
            wait,
            at,
            status,
            reason,
            "Callback retry scheduled"
        );
    });
}

/// A callback is not made, because it must not be. `url` is [`loggable`].
pub fn callback_refused(call_id: &str, function: &str, url: &str, reason: &str) {
    warn!(callId = call_id, function, url, reason, "Callback refused");
}

/// An attempt failed and another is parked.
pub fn retry_scheduled(call_id: &str, function: &str, next: &Next<'_>) {
    let Next { delivery, max_attempts, wait, at, outcome } = *next;
    let (wait, reason) = (wait.as_secs_f64(), outcome.reason());
    with_status(outcome, |status| {
        warn!(
            callId = call_id,
            function,
            delivery,
            maxAttempts = max_attempts,
            wait,
            at,
            status,
            reason,
            "Retry scheduled"
        );
    });
}

/// An invocation ended without success. An unknown text is empty, and its field is left out: a message that
/// cannot be decoded has no call id, no function and no status. `reason` adds to the status.
pub fn dead_letter(
    call_id: &str,
    function: &str,
    attempts: u32,
    cause: &str,
    status: &str,
    reason: Option<&str>,
    event: Option<&EventName>,
) {
    let (event_id, source) = event::told(event);
    let known = |text| Some(text).filter(|text: &&str| !text.is_empty());
    with(status, |status| {
        error!(
            callId = known(call_id),
            function = known(function),
            attempts,
            cause,
            status,
            reason,
            eventId = event_id,
            eventSource = source.as_deref(),
            "Dead letter"
        );
    });
}

/// A delivery was given up because its lease ended. A message that cannot be read has no call id and no
/// function.
pub fn lease_lost(call_id: Option<&str>, function: Option<&str>) {
    warn!(callId = call_id, function, "Lease lost: the broker delivers the message again");
}

/// A message is dropped instead of becoming a dead letter, as the settings ask.
pub fn dropped(call_id: Option<&str>, function: Option<&str>, cause: &str) {
    let (call_id, function) = (call_id.unwrap_or_default(), function.unwrap_or_default());
    warn!(callId = call_id, function, cause, "Dropped: dead_letters is false");
}

/// Logs with an outcome's status, or the word in the place of one.
fn with_status(outcome: &Outcome, log: impl FnOnce(Option<&dyn Value>)) {
    match outcome.status() {
        Some(status) => log(Some(&status)),
        None => log(Some(&outcome.label())),
    }
}

/// Logs with a status that is a number where it is one, so that machines can compare it, and left out where
/// it is empty.
fn with(status: &str, log: impl FnOnce(Option<&dyn Value>)) {
    match status.parse::<u16>() {
        Ok(code) => log(Some(&code)),
        Err(_) if status.is_empty() => log(None),
        Err(_) => log(Some(&status)),
    }
}

/// The text of a URL as it may be logged: nothing where it is none.
pub fn loggable_text(url: &str) -> String {
    Url::parse(url).map(|url| loggable(&url)).unwrap_or_default()
}

/// A URL as it may be logged: without user, password, query and fragment, which may all hold secrets.
pub fn loggable(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both are refused only by URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Encoding, retry::judge::Reply};

    /// What `log` writes as JSON, less its time.
    fn check(log: impl FnOnce(), expected: &str) {
        let line = line::tests::logged(Encoding::Json, log);
        let (_, fields) = line.split_once(',').unwrap();
        assert_eq!(fields.trim_end_matches("}\n"), expected);
    }

    fn status(status: u16) -> Outcome {
        Outcome::Replied(Reply { status, ..Reply::default() })
    }

    fn next(max_attempts: u32, outcome: &Outcome) -> Next<'_> {
        Next { delivery: 1, max_attempts, wait: Duration::from_secs(10), at: "2026-01-01T00:00:10Z", outcome }
    }

    #[test]
    fn calls_are_logged_with_the_names_that_people_grep_for() {
        check(
            || invoke("c", "echo", 1, 5, "http://gateway:8080/function/echo", None),
            r#""level":"info","message":"Invoke","callId":"c","function":"echo","delivery":1,"bytes":5,"url":"http://gateway:8080/function/echo""#,
        );
        check(
            || invoked("c", "echo", 1, &status(200), Duration::from_millis(1500), false),
            r#""level":"info","message":"Invoked","callId":"c","function":"echo","delivery":1,"status":200,"duration":1.5"#,
        );
        check(
            || {
                invoked(
                    "c",
                    "echo",
                    2,
                    &Outcome::Unreachable("TLS: unknown issuer".into()),
                    Duration::from_secs(60),
                    false,
                )
            },
            r#""level":"info","message":"Invoked","callId":"c","function":"echo","delivery":2,"status":"unreachable","duration":60.0,"reason":"TLS: unknown issuer""#,
        );
        check(
            || posted_result("c", "echo", "http://example.com/", &status(202), false),
            r#""level":"info","message":"Posted result","callId":"c","function":"echo","url":"http://example.com/","status":202"#,
        );
    }

    #[test]
    fn what_is_news_stands_out() {
        check(
            || invoked("c", "echo", 1, &status(500), Duration::from_secs(1), true),
            r#""level":"warn","message":"Invoked","callId":"c","function":"echo","delivery":1,"status":500,"duration":1.0"#,
        );
        check(
            || posted_result("c", "echo", "http://h/", &Outcome::TimedOut, true),
            r#""level":"warn","message":"Posted result","callId":"c","function":"echo","url":"http://h/","status":"timeout","reason":"no answer in time""#,
        );
    }

    #[test]
    fn failures_are_logged_with_what_comes_next() {
        check(
            || retry_scheduled("c", "echo", &next(10, &status(429))),
            r#""level":"warn","message":"Retry scheduled","callId":"c","function":"echo","delivery":1,"maxAttempts":10,"wait":10.0,"at":"2026-01-01T00:00:10Z","status":429"#,
        );
        check(
            || dead_letter("c", "echo", 10, "exhausted", "503", None, None),
            r#""level":"error","message":"Dead letter","callId":"c","function":"echo","attempts":10,"cause":"exhausted","status":503"#,
        );
        check(
            || dead_letter("", "", 0, "undecodable", "", Some("the message is cut off"), None),
            r#""level":"error","message":"Dead letter","attempts":0,"cause":"undecodable","reason":"the message is cut off""#,
        );
    }

    #[test]
    fn an_event_is_told_by_its_own_names() {
        let event = EventName { id: Some("1".into()), source: Some("/s".into()) };
        check(
            || invoke("c", "eu", 1, 5, "http://shop/", Some(&event)),
            r#""level":"info","message":"Invoke","callId":"c","function":"eu","delivery":1,"bytes":5,"url":"http://shop/","eventId":"1","eventSource":"/s""#,
        );
    }

    #[test]
    fn a_lost_lease_is_logged_with_whose_it_was_as_far_as_that_is_known() {
        let text = "Lease lost: the broker delivers the message again";
        check(
            || lease_lost(Some("c"), Some("echo")),
            &format!(r#""level":"warn","message":"{text}","callId":"c","function":"echo""#),
        );
        check(|| lease_lost(None, None), &format!(r#""level":"warn","message":"{text}""#));
    }

    #[test]
    fn callbacks_that_fail_are_told_from_calls() {
        check(
            || callback_scheduled("c", "echo", &next(5, &Outcome::TimedOut)),
            r#""level":"warn","message":"Callback retry scheduled","callId":"c","function":"echo","delivery":1,"maxAttempts":5,"wait":10.0,"at":"2026-01-01T00:00:10Z","status":"timeout","reason":"no answer in time""#,
        );
        check(
            || callback_refused("c", "echo", "http://10.0.0.1/", "its address is private"),
            r#""level":"warn","message":"Callback refused","callId":"c","function":"echo","url":"http://10.0.0.1/","reason":"its address is private""#,
        );
    }

    #[test]
    fn a_logged_url_has_no_secrets() {
        let url = Url::parse("https://user:pass@example.com:8443/a/b?token=1#frag").unwrap();
        assert_eq!(loggable(&url), "https://example.com:8443/a/b");
    }
}
