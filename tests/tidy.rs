//! What the project promises about itself, read off its own files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a file that cannot be read is a failed test")]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use queue_worker::{
    broker::{Arrival, Record},
    config,
    decode::decode,
    envelope::Envelope,
    header,
    invoke::{Answer, Call},
    judge::Outcome,
    metrics,
    parcel::Parcel,
    stan::{Channel, requests::publish, wire::PubMsg},
    supervisor::Part,
    trace::Trace,
};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
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

/// The rows of the table in that document whose header row begins so: their cells.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let rows: Vec<_> = text.lines().skip_while(|line| !line.starts_with(header)).skip(2).take_while(|line| line.starts_with('|')).collect();
    assert!(!rows.is_empty(), "{document} has no table {header}");
    rows.iter().map(|row| row.trim_matches('|').split(" |").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn the_documentation_lists_every_setting_with_its_default() {
    let written = table("docs/settings.md", "| setting | also | default");
    let expected: Vec<Vec<String>> = config::settings()
        .iter()
        .map(|setting| {
            vec![setting.name.to_owned(), setting.aliases.join(", "), setting.default_text().to_owned(), setting.help.to_owned()]
        })
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn the_documentation_lists_every_metric() {
    let written: Vec<String> = table("docs/metrics.md", "| metric | labels").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, metrics::names());
}

#[test]
fn the_worker_understands_all_that_the_compose_file_sets() {
    let compose = read("compose.yaml");
    let worker = compose.lines().skip_while(|line| *line != "  worker:").skip(1).take_while(|line| line.starts_with("    "));
    let environment = worker.skip_while(|line| *line != "    environment:").skip(1).take_while(|line| line.starts_with("      "));
    let set: Vec<_> = environment.map(str::trim).filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": ")).collect();
    assert!(!set.is_empty());
    for (name, _) in &set {
        assert!(config::settings().iter().any(|setting| setting.name == *name), "{name} is no setting");
    }
    let loaded = config::load([], set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    assert_eq!(loaded.unwrap().notes, Vec::<String>::new());
}

#[test]
fn the_image_is_built_with_the_rust_that_the_crate_asks_for() {
    let image = format!("FROM rust:{}-slim-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(read("Dockerfile").lines().any(|line| line.starts_with(&image)), "no {image}");
}

#[test]
fn the_rules_of_retrying_are_pure() {
    let pure = [
        "decode",
        "policy",
        "backoff",
        "judge",
        "envelope",
        "parcel",
        "poison/block",
        "poison/letter",
        "names",
        "header",
        "timer",
        "orphans/tally",
        "trace/parent",
        "callback/address",
        "callback/allowed",
        "callback/posting",
        "callback/verdict",
        "advice",
        "denial",
        "streams/limits",
        "streams/rules",
        "streams/wanted",
        "doctor/checks",
        "doctor/guarantee",
        "doctor/mend",
        "doctor/report",
    ];
    let sources: Vec<_> = sources("src")
        .into_iter()
        .filter(|(path, _)| {
            pure.iter().any(|module| path.contains(&format!("src/{module}.rs")) || path.contains(&format!("src/{module}/")))
        })
        .collect();
    assert!(sources.len() >= pure.len());
    for (path, source) in sources {
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        for banned in ["async fn", ".await", "SystemTime::now", "Instant::now", "rand::", "std::fs", "std::env", "tokio::spawn"] {
            assert!(path.contains("/tests") || !code.contains(banned), "{path} is to be pure and has {banned}");
        }
    }
}

#[test]
fn only_settle_the_lease_the_movers_and_who_buries_or_lays_ghosts_acknowledge() {
    for (path, source) in sources("src") {
        let allowed = ["settle.rs", "lease.rs", "mover.rs", "ghosts.rs", "burial.rs", "broker.rs", "jetstream.rs"]
            .iter()
            .any(|file| path.ends_with(file));
        assert!(allowed || !source.contains(".acknowledge(&"), "{path} acknowledges by itself");
    }
}

/// Where tasks and threads are begun that nobody keeps running, how often, and why nobody has to.
const UNKEPT: &[(&str, usize, &str)] = &[
    ("admin/connections.rs", 1, "one connection of a client; its end ends that conversation"),
    ("aside.rs", 2, "one conversation, of whose end its beginner hears, and a helper that ends at once and leaves its thread"),
    ("callback/sign.rs", 1, "reads a file; whoever asked hears of its end"),
    ("connect.rs", 1, "reads a file; whoever asked hears of its end"),
    ("heavy.rs", 1, "packs or unpacks one payload; whoever asked hears of its end"),
    ("invoke/turns.rs", 1, "one connection to the gateway; its end breaks that connection"),
    ("levels.rs", 1, "a mover, which is kept in there"),
    ("lookup.rs", 1, "one look-up; after a minute without an answer another is begun"),
    ("pull.rs", 2, "one delivery; the broker delivers it again"),
    ("serve.rs", 1, "the bridge, which is kept in there"),
    ("service.rs", 2, "lanes and levels, which are kept in there"),
    ("stan.rs", 1, "one message; its client publishes it again"),
    ("strain.rs", 1, "gives permits back after a sleep, and cannot fail"),
    ("supervisor/attendants.rs", 1, "a part, which is kept in there"),
    ("supervisor/thread.rs", 1, "a part, which is kept in there"),
    ("trace/export.rs", 1, "one export; whoever began it hears of its end"),
    ("trace/on.rs", 1, "the end of the traces, at the end of the process"),
];

#[test]
fn nothing_that_lives_long_is_begun_without_somebody_who_keeps_it_running() {
    let begins = |line: &&str| !line.trim_start().starts_with("//") && (line.contains("spawn(") || line.contains("spawn_blocking("));
    let mut unlisted = Vec::new();
    for (path, source) in sources("src") {
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        let begun = code.lines().filter(begins).count();
        let listed = UNKEPT.iter().filter(|(file, ..)| path.ends_with(&format!("src/{file}"))).map(|(_, begun, _)| *begun).sum::<usize>();
        if begun != listed {
            unlisted.push(format!("{path} begins {begun}, and {listed} are listed"));
        }
    }
    assert_eq!(unlisted, Vec::<String>::new(), "what lives long belongs to the supervisor");
    assert!(UNKEPT.iter().all(|(.., reason)| !reason.is_empty()));
}

#[test]
fn the_documentation_lists_the_parts_of_a_worker() {
    let written: Vec<String> = table("docs/operating.md", "| part |").into_iter().map(|row| row[0].clone()).collect();
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
    let record =
        Record { stream: stream.clone(), subject: subject.clone(), id: "1".to_owned(), headers: headers.clone(), payload: payload.clone() };
    let arrival = Arrival {
        subject,
        headers,
        payload: payload.clone(),
        stream,
        sequence: 1,
        stored: SystemTime::UNIX_EPOCH,
        delivered: 1,
        pending: 0,
        reply: String::new(),
        asked: tokio::time::Instant::now(),
        ack_wait: Duration::ZERO.into(),
        doubtful: false,
    };
    let answer = Answer {
        outcome: Outcome::TimedOut,
        took: Duration::ZERO,
        headers: http::HeaderMap::from_iter([(http::header::SET_COOKIE, http::HeaderValue::from_static("hidden"))]),
        body: payload.clone(),
        truncated: false,
    };
    let publication =
        PubMsg { client_id: "c".to_owned(), guid: "g".to_owned(), subject: "q".to_owned(), data: payload, conn_id: Bytes::new() };
    let channel = Channel { subject: "q".to_owned(), stream: "q".to_owned() };
    let span = Trace::default().call("f", 1, "u");
    let call = Call { invocation: &invocation, call_id: "a", retry: 0, retry_max: 0, keep: 0, span: &span };
    for shown in [
        format!("{invocation:?}"),
        format!("{call:?}"),
        format!("{:?}", invocation.callback),
        format!("{:?}", Envelope::fresh(&arrival)),
        format!("{:?}", Parcel::new(&arrival, true)),
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
            let written =
                source.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(concat!("un", "safe ")));
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

#[test]
fn the_modules_of_the_library_are_its_files() {
    let library = read("src/lib.rs");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_file() && !["lib", "main"].contains(&name) {
            assert!(library.contains(&format!("pub mod {name};")), "src/{name}.rs is no module of the library");
        }
    }
}

#[test]
fn the_architecture_lists_the_modules_in_the_order_of_the_library() {
    let text = read("docs/architecture.md");
    let written: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|(module, _)| module).collect();
    let library = read("src/lib.rs");
    let modules: Vec<_> = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(written, modules);
}

/// What people read: the paths of all documents, from the root.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<_> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "chart/queue-worker/README.md"].map(PathBuf::from).into();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            documents.push(Path::new("docs").join(name));
        }
    }
    assert!(documents.len() > 4);
    documents
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What a document's headings are called in links to it, as GitHub makes it.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let mut anchors = Vec::new();
    for heading in headings {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    anchors
}

/// Where the links in a text lead that stay in the repository.
fn links(text: &str) -> Vec<&str> {
    // One that does not end on its line is broken, and leads nowhere as it stands.
    let targets = prose(text).flat_map(|line| line.split("](").skip(1)).map(|rest| rest.split_once(')').map_or(rest, |(target, _)| target));
    targets.filter(|target| !target.contains("://")).collect()
}

/// What is wrong with a link from a document, if anything is.
fn fault(document: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists() {
        return Some(format!("{}: there is no {link}", document.display()));
    }
    let leads = anchor.is_empty() || anchors(&read(target.to_str().unwrap())).iter().any(|known| known == anchor);
    (!leads).then(|| format!("{}: nothing is called {link}", document.display()))
}

#[test]
fn the_links_in_the_documents_lead_somewhere() {
    let mut faults = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let text = read(document.to_str().unwrap());
        followed += links(&text).len();
        faults.extend(links(&text).into_iter().filter_map(|link| fault(&document, link)));
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(followed > 20, "{followed}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text = "# A `b`, c\n## A b c\n```sh\n# no heading [x](nowhere.md)\n```\n[one](docs/none.md) [two](#a-b-c-1), [three](https://example.com/#x) ![four](#d) [five](f.md";
    assert_eq!(anchors(text), ["a-b-c", "a-b-c-1"]);
    assert_eq!(links(text), ["docs/none.md", "#a-b-c-1", "#d", "f.md"]);
    let readme = Path::new("README.md");
    assert_eq!(fault(readme, "docs/none.md").as_deref(), Some("README.md: there is no docs/none.md"));
    assert_eq!(fault(readme, "docs/operating.md#none").as_deref(), Some("README.md: nothing is called docs/operating.md#none"));
    assert_eq!(fault(readme, "docs/operating.md#alerts"), None);
}
