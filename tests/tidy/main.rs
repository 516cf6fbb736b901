//! What the project promises about itself, read off its own files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a file that cannot be read is a failed test"
)]

use std::{
    ffi::OsString,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::Message as _;
use queue_worker::{
    config,
    message::{
        answer::Answer, arrival::Arrival, decode::decode, envelope::Envelope, header, record::Record,
        successor::Message,
    },
    observe::{metrics, trace::Trace},
    outbound::invoke::Call,
    retry::judge::Outcome,
    stan::{Channel, requests::publish, wire::PubMsg},
    tasks::supervisor::Part,
};

mod documents;
mod path;
mod rooms;
mod sizes;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The code of a file without comments and without its tests.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rows of the table in that document whose header row begins so: their cells.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let rows: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(!rows.is_empty(), "{document} has no table {header}");
    rows.iter()
        .map(|row| row.trim_matches('|').split(" |").map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn the_documentation_lists_every_setting_with_its_default() {
    let written = table("docs/settings.md", "| setting | also | default");
    let expected: Vec<Vec<String>> = config::settings()
        .iter()
        .map(|setting| {
            vec![
                setting.name.to_owned(),
                setting.aliases.join(", "),
                setting.default_text().to_owned(),
                setting.help.to_owned(),
            ]
        })
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn the_documentation_lists_every_metric() {
    let written: Vec<String> =
        table("docs/metrics.md", "| metric | labels").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, metrics::names());
}

#[test]
fn the_worker_understands_all_that_the_compose_file_sets() {
    let compose = read("compose.yaml");
    let worker = compose
        .lines()
        .skip_while(|line| *line != "  worker:")
        .skip(1)
        .take_while(|line| line.starts_with("    "));
    let environment = worker
        .skip_while(|line| *line != "    environment:")
        .skip(1)
        .take_while(|line| line.starts_with("      "));
    let set: Vec<_> = environment
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .collect();
    assert!(!set.is_empty());
    for (name, _) in &set {
        assert!(config::settings().iter().any(|setting| setting.name == *name), "{name} is no setting");
    }
    let loaded =
        config::load([], set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    assert_eq!(loaded.unwrap().notes, Vec::<String>::new());
}

#[test]
fn the_image_is_built_with_the_rust_that_the_crate_asks_for() {
    let image = format!("FROM rust:{}-slim-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(read("Dockerfile").lines().any(|line| line.starts_with(&image)), "no {image}");
}

#[test]
fn only_settle_the_lease_the_promoters_and_those_who_bury_or_free_of_phantoms_acknowledge() {
    for (path, source) in sources("src") {
        let allowed = [
            "settle.rs",
            "lease.rs",
            "promoter.rs",
            "phantom_acks.rs",
            "burial.rs",
            "seam.rs",
            "jetstream.rs",
        ]
        .iter()
        .any(|file| path.ends_with(file));
        assert!(allowed || !source.contains(".acknowledge(&"), "{path} acknowledges by itself");
    }
}

/// Where tasks and threads are begun that nobody keeps running, how often, and why nobody has to.
const UNKEPT: &[(&str, usize, &str)] = &[
    ("inbound/connections.rs", 1, "one connection of a client; its end ends that conversation"),
    (
        "tasks/offload.rs",
        2,
        "one conversation, of whose end its beginner hears, and a helper that ends at once and leaves its \
            thread",
    ),
    ("broker/connect.rs", 1, "reads a file; whoever asked hears of its end"),
    ("tasks/renewed.rs", 1, "looks at a file; whoever asked hears of its end"),
    ("tasks/heavy.rs", 1, "packs or unpacks one payload; whoever asked hears of its end"),
    (
        "outbound/invoke/pool.rs",
        2,
        "one connection to the gateway, whose end breaks that one; and closing unused ones, which another \
            call begins again",
    ),
    ("upkeep/levels.rs", 1, "a promoter, which is kept in there"),
    ("outbound/lookup.rs", 1, "one look-up; after a minute without an answer another is begun"),
    ("worker/pull.rs", 2, "one delivery; the broker delivers it again"),
    ("run/process.rs", 3, "the bridge, the ingress and the API, which are kept in there"),
    ("run/queue.rs", 2, "lanes and levels, which are kept in there"),
    ("run/lanes.rs", 1, "a lane of what was held, which is kept in there"),
    ("run/pauses.rs", 1, "the look at what is paused, which is kept in there"),
    ("run/operations.rs", 1, "operations, which are kept in there"),
    ("api/mod.rs", 1, "one change; whoever asked hears of its end, and the drain waits for it"),
    ("run/calls.rs", 1, "answers about calls, which are kept in there"),
    ("run/service.rs", 1, "answers to nats micro, which are kept in there"),
    ("stan/mod.rs", 1, "one message; its client publishes it again"),
    ("flow/strain.rs", 1, "gives permits back after a sleep, and cannot fail"),
    ("tasks/supervisor/attendants.rs", 1, "a part, which is kept in there"),
    ("tasks/supervisor/thread.rs", 1, "a part, which is kept in there"),
    ("observe/trace/export.rs", 1, "one export; whoever began it hears of its end"),
    ("observe/trace/delivery.rs", 1, "the end of the traces, at the end of the process"),
];

#[test]
fn nothing_that_lives_long_is_begun_without_somebody_who_keeps_it_running() {
    let begins = |line: &&str| line.contains("spawn(") || line.contains("spawn_blocking(");
    let mut unlisted = Vec::new();
    for (path, source) in sources("src") {
        let begun = code(&source).lines().filter(begins).count();
        let listed = UNKEPT
            .iter()
            .filter(|(file, ..)| path.ends_with(&format!("src/{file}")))
            .map(|(_, begun, _)| *begun)
            .sum::<usize>();
        if begun != listed {
            unlisted.push(format!("{path} begins {begun}, and {listed} are listed"));
        }
    }
    assert_eq!(unlisted, Vec::<String>::new(), "what lives long belongs to the supervisor");
    assert!(UNKEPT.iter().all(|(.., reason)| !reason.is_empty()));
}

#[test]
fn the_documentation_lists_the_parts_of_a_worker() {
    let written: Vec<String> =
        table("docs/operating.md", "| part |").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, Part::ALL.iter().map(|part| part.name()).collect::<Vec<_>>());
}

#[test]
fn nothing_that_callers_wrote_is_shown_by_debug() {
    let message = br#"{"Function":"f","Path":"/hidden","QueryString":"hidden","Header":{"Authorization":["hidden"],"X-Call-Id":["a"]},
        "Body":"aGlkZGVu","Annotations":{"hidden":"hidden"},"CallbackUrl":{"Scheme":"http","Host":"h","Path":"/hidden","RawQuery":"hidden"}}"#;
    let invocation = decode(message).unwrap();
    let mut headers = async_nats::HeaderMap::new();
    header::put(&mut headers, "Authorization", "hidden");
    let (subject, stream, payload) = ("q".to_owned(), "q".to_owned(), Bytes::from_static(b"hidden"));
    let record = Record {
        stream: stream.clone(),
        subject: subject.clone(),
        id: "1".to_owned(),
        headers: headers.clone(),
        payload: payload.clone(),
    };
    let arrival = Arrival {
        subject,
        headers,
        payload: payload.clone(),
        stream: stream.into(),
        sequence: 1,
        stored: SystemTime::UNIX_EPOCH,
    };
    let answer = Answer {
        outcome: Outcome::TimedOut,
        took: Duration::ZERO,
        headers: http::HeaderMap::from_iter([(
            http::header::SET_COOKIE,
            http::HeaderValue::from_static("hidden"),
        )]),
        body: payload.clone(),
        truncated: false,
    };
    let publication = PubMsg {
        client_id: "c".to_owned(),
        guid: "g".to_owned(),
        subject: "q".to_owned(),
        data: payload,
        conn_id: Bytes::new(),
    };
    let channel = Channel { subject: "q".to_owned(), stream: "q".to_owned() };
    let span = Trace::default().call("f", 1, "u");
    let (url, call_id, span) = ("u", "a", &span);
    let call = Call { invocation: &invocation, url, call_id, retry: 0, retry_max: 0, keep: 0, span };
    for shown in [
        format!("{invocation:?}"),
        format!("{call:?}"),
        format!("{:?}", invocation.callback),
        format!("{:?}", Envelope::fresh(&arrival)),
        format!("{:?}", Message::new(&arrival, true)),
        format!("{arrival:?}"),
        format!("{record:?}"),
        format!("{answer:?}"),
        format!("{publication:?}"),
        format!("{:?}", publish(publication.encode_to_vec().into(), &[channel]).unwrap()),
    ] {
        // Bytes are shown as they are, and as numbers.
        assert!(!shown.contains("hidden") && !shown.contains("104, 105"), "{shown}");
    }
}

#[test]
fn nothing_is_unsafe() {
    for folder in ["src", "tests", "examples", "fuzz/src", "fuzz/targets"] {
        for (path, source) in sources(folder) {
            let written = source
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| line.contains(concat!("un", "safe ")));
            assert!(!written, "{path}");
        }
    }
}

#[test]
fn no_test_is_ignored_or_tried_again() {
    for folder in ["src", "tests", "examples"] {
        for (path, source) in sources(folder) {
            assert!(!source.contains(concat!("#[", "ignore")), "{path} ignores a test");
        }
    }
}
