//! Whole environments and command lines, as people and charts write them.

mod bounds;
mod others;
mod spelling;

use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;
use crate::retry::backoff::{Backoff, Jitter};

/// Loads `NAME=value` words: flags where they begin with a dash, else variables.
fn load_words(words: &[&str]) -> Result<Loaded, Refusal> {
    let (flags, variables): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('-'));
    let variable = |word: &str| {
        let (name, value) = word.split_once('=').unwrap();
        (name.into(), value.into())
    };
    load(flags.into_iter().map(OsString::from), variables.into_iter().map(variable))
}

fn config(words: &[&str]) -> Config {
    load_words(words).unwrap_or_else(|refusal| panic!("{words:?}: {refusal:?}")).config
}

fn faults(words: &[&str]) -> Vec<String> {
    match load_words(words) {
        Err(Refusal::Invalid(faults)) => faults,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn check_fault(words: &[&str], expected: &str) {
    assert_eq!(faults(words), [expected], "{words:?}");
}

/// That each of these command lines and environments gives the same value.
fn check_same<T: std::fmt::Debug + PartialEq>(
    take: impl Fn(Config) -> T,
    expected: T,
    spellings: &[&[&str]],
) {
    for words in spellings {
        assert_eq!(take(config(words)), expected, "{words:?}");
    }
}

#[test]
fn the_doctor_is_asked_for_by_the_first_word_and_has_flags_of_its_own() {
    let ask = |words: &[&str]| load(words.iter().map(OsString::from), []);
    let doctor = |words: &[&str]| ask(words).unwrap().doctor;
    assert_eq!(doctor(&[]), None);
    assert_eq!(doctor(&["doctor"]), Some(Doctor::default()));
    let monitor = Url::parse("http://nats:8222").ok();
    for words in [
        ["doctor", "--json", "--monitor=http://nats:8222"].as_slice(),
        &["doctor", "-monitor", "http://nats:8222", "-json=true"],
        &["doctor", "--output", "json", "--monitor=http://nats:8222"],
    ] {
        assert_eq!(
            doctor(words),
            Some(Doctor { json: true, monitor: monitor.clone(), context: None }),
            "{words:?}"
        );
    }
    assert_eq!(ask(&["doctor", "--max-inflight=3"]).unwrap().config.max_inflight, 3);
    for words in [
        ["--json"].as_slice(),
        &["--monitor=http://nats:8222"],
        &["--debug", "false", "doctor"],
        &["doctor", "doctor"],
        &["doctor", "--json=x"],
        &["doctor", "--output=yaml"],
        &["--output=json"],
        &["doctor", "--monitor"],
        &["doctor", "--monitor=nats:8222"],
        &["doctor", "--monitor=http://user@nats:8222"],
        &["doctor", "--max-inflight=0"],
    ] {
        assert!(matches!(ask(words), Err(Refusal::Invalid(faults)) if faults.len() == 1), "{words:?}");
    }
}

#[test]
fn nothing_set_gives_the_defaults_that_are_promised() {
    let Loaded { config, notes, .. } = load_words(&[]).unwrap();
    assert_eq!(config.nats.servers, ["nats://127.0.0.1:4222"]);
    assert_eq!(config.nats.login, Login::None);
    assert_eq!((config.nats.ca_file, config.nats.client_cert, config.nats.js_domain), (None, None, None));
    assert_eq!((config.nats.inbox_prefix.as_str(), config.nats.manage), ("_INBOX", true));
    assert_eq!(config.nats.stream_replicas, 1);
    let [queue] = config.queues.try_into().unwrap();
    assert_eq!((queue.name.as_str(), queue.stream.as_str()), ("faas-request", "faas-request"));
    assert_eq!((queue.filter_subject.as_str(), queue.deliver), ("faas-request", None));
    assert_eq!(queue.durable, "faas-workers");
    assert_eq!(queue.names().retries, "faas-request-retries");
    assert_eq!(queue.names().dead, "faas-request-dead");
    assert_eq!(config.gateway_url.as_str(), "http://127.0.0.1:8080/");
    assert_eq!(config.function_namespace, "openfaas-fn");
    assert_eq!(config.max_inflight, 50);
    assert_eq!((config.ack_wait.as_secs(), config.upstream_timeout.as_secs()), (60, 60));
    let seconds = Duration::from_secs;
    let backoff = Backoff { initial: seconds(10), max: seconds(120), jitter: Jitter::None };
    assert_eq!(
        config.retry,
        RetryPolicy {
            max_attempts: 10,
            codes: "429,502,500,504,408".parse().unwrap(),
            backoff,
            immediate_retries: 0,
            max_retry_after: seconds(3600),
            max_message_age: None,
        }
    );
    assert_eq!((config.retry_timer, config.confirm_acks), (RetryTimer::Auto, false));
    assert!(config.dead_letters.enabled);
    assert_eq!((config.dead_letters.max_age, config.dead_letters.max_bytes), (seconds(14 * 86_400), 0));
    assert_eq!((config.callback.timeout, config.callback.max_body), (seconds(30), 10 << 20));
    assert_eq!((config.callback.attempts, config.callback.allowed), (5, "*".parse().unwrap()));
    assert_eq!((config.callback.deny_private, config.callback.signing_file), (false, None));
    assert!(!config.callback.tls_insecure);
    assert_eq!(config.shutdown_grace, seconds(25));
    assert_eq!(config.listen_addr, ([0, 0, 0, 0], 8081).into());
    assert_eq!((config.log.encoding, config.log.debug), (Encoding::Console, false));
    let audit = Audit { level: Audited::Nothing, max_age: seconds(168 * 3600), max_bytes: 1 << 30 };
    assert_eq!(config.audit, audit);
    assert!(notes.is_empty());
}

#[test]
fn all_errors_are_reported_at_once() {
    let expected = [
        "--colour: expected one of the flags that --help lists",
        "--queue-name: expected a value",
        "Max_Message_Age=1s and max_message_age=2s: both are max_message_age, expected one value",
        "nats_port=x: expected a whole number from 1 to 65535",
        "nats_durable=a.b: expected a name of at most 255 bytes without spaces, dots, slashes, * and >",
        "gateway_url=gateway: expected a URL such as http://gateway:8080",
        "--max-inflight=many: expected a whole number from 1 to 100000",
        "http_retry_codes=99: expected statuses from 100 to 599 and ranges of them, separated by commas, \
            such as 429,500-504",
        "confirm_acks=yes: expected true, false, 1 or 0",
        "callback_max_body=0: expected at least one byte",
        "callback_memory=0: expected at least one byte",
        "shutdown_grace=1d: expected a duration in h, m, s, ms, us or ns, such as 1m30s or 1.5h",
        "audit=some: expected off or failures or all",
    ];
    let found = faults(&[
        "--colour=red",
        "--max-inflight=many",
        "--queue-name",
        "max_message_age=2s",
        "Max_Message_Age=1s",
        "nats_port=x",
        "nats_durable=a.b",
        "gateway_url=gateway",
        "http_retry_codes=99",
        "confirm_acks=yes",
        "callback_max_body=0",
        "callback_memory=0",
        "shutdown_grace=1d",
        "audit=some",
    ]);
    assert_eq!(found, expected);
}

#[test]
fn every_setting_but_free_text_refuses_nonsense() {
    // Of a secret the complaint is another.
    let is_free = |setting: &&Setting| {
        matches!(setting.kind, Kind::File | Kind::Secret)
            || ["nats_user", "otel_service_name"].contains(&setting.name)
    };
    for Setting { name, .. } in settings().iter().filter(|setting| !is_free(setting)) {
        let faults = faults(&[&format!("{name}=\u{1}no sense, *")]);
        let shown = format!("{name}=\\u{{1}}no sense, *: ");
        assert!(matches!(faults.as_slice(), [fault] if fault.starts_with(&shown)), "{faults:?}");
    }
}

#[test]
fn the_help_shows_every_setting_with_its_default() {
    for flag in ["--help", "-h", "-help"] {
        let words = [flag, "--nonsense", "max_inflight=many"];
        let Err(Refusal::Print(help)) = load_words(&words) else { panic!("{flag}") };
        let flowing = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in settings() {
            let Setting { name, aliases, help: meaning, .. } = setting;
            assert!(flowing.contains(&format!(" --{} <", setting.flag())), "{name}");
            let described = format!("> {meaning} [default: {}]", setting.default_text());
            assert!(flowing.contains(&described), "{name}");
            for alias in *aliases {
                assert!(flowing.contains(&format!("--{}", alias.replace('_', "-"))), "{alias}");
            }
        }
        assert!(help.ends_with('\n'));
    }
}

#[test]
fn the_doctors_help_is_its_own() {
    let Err(Refusal::Print(help)) = load(["doctor", "--help"].map(OsString::from), []) else { panic!() };
    for said in ["Usage: queue-worker doctor", "--monitor <URL>", "--context <NAME>", "--json", "--output"] {
        assert!(help.contains(said), "{said} is not in\n{help}");
    }
    assert!(!help.contains("--max-inflight"), "{help}");
}

#[test]
fn the_version_is_printed() {
    let version = format!("queue-worker {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-version", "-V"] {
        assert_eq!(load_words(&[flag]).unwrap_err(), Refusal::Print(version.clone()));
    }
}

proptest! {
    #[test]
    fn no_environment_and_no_arguments_make_it_panic(
        variables in proptest::collection::vec(
            (0..settings().len(), "\\PC*|[-0-9.a-zµ:/@\\[\\],*>]{0,20}"),
            0..8,
        ),
        others in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..4),
        arguments in proptest::collection::vec("--?[a-z-]*=?\\PC*|\\PC*", 0..4),
    ) {
        let ours = variables.into_iter().map(|(index, value)| (settings()[index].name.into(), value.into()));
        let text = OsString::from_vec;
        let others = others.into_iter().map(|(name, value)| (text(name), text(value)));
        let _ = load(arguments.into_iter().map(OsString::from), ours.chain(others));
    }
}
