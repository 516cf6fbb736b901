//! The house: which rooms `src` has, which of them may call which, and which are pure.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{code, read, sources};

/// A room of the house.
struct Room {
    name: &'static str,
    /// Pure rooms have no I/O, no clock, no dice and nothing async.
    pure: bool,
    /// The rooms that it may call. All of them stand before it, so that there is no way in a circle.
    calls: &'static [&'static str],
}

const fn pure(name: &'static str, calls: &'static [&'static str]) -> Room {
    Room { name, pure: true, calls }
}

const fn room(name: &'static str, calls: &'static [&'static str]) -> Room {
    Room { name, pure: false, calls }
}

const ROOMS: &[Room] = &[
    pure("text", &[]),
    room("tasks", &[]),
    pure("retry", &["text"]),
    pure("message", &["text", "retry"]),
    room("config", &["text", "retry", "message"]),
    room("observe", &["text", "tasks", "retry", "message", "config"]),
    room("broker", &["text", "tasks", "retry", "message", "config", "observe"]),
    room("flow", &[]),
    room("inbound", &["tasks", "flow"]),
    room("outbound", &["text", "tasks", "retry", "message", "config", "observe", "flow"]),
    room("upkeep", &["text", "tasks", "message", "config", "observe", "broker", "flow"]),
    room("admin", &["text", "tasks", "observe", "broker", "inbound"]),
    room("stan", &["text", "tasks", "message", "observe", "broker", "admin"]),
    room("ingress", &["text", "tasks", "message", "config", "observe", "broker", "inbound"]),
    room("worker", &["text", "tasks", "retry", "message", "observe", "broker", "flow", "outbound"]),
    room(
        "operate",
        &[
            "text", "tasks", "retry", "message", "config", "observe", "broker", "flow", "outbound", "upkeep",
            "admin", "stan", "ingress",
        ],
    ),
    room("api", &["text", "tasks", "retry", "message", "config", "broker", "inbound", "outbound", "operate"]),
    room(
        "run",
        &[
            "text", "tasks", "retry", "message", "config", "observe", "broker", "flow", "inbound",
            "outbound", "upkeep", "admin", "stan", "ingress", "worker", "operate", "api",
        ],
    ),
];

/// Pure files in rooms that are not pure.
const PURE_FILES: &[&str] = &[
    "broker/known_issues",
    "broker/streams/desired",
    "broker/streams/limits",
    "broker/streams/rules",
    "broker/version",
    "config/allowed",
    "ingress/entry",
    "ingress/route",
    "observe/trace/parent",
    "operate/doctor/checks",
    "operate/doctor/guarantee",
    "operate/doctor/mend",
    "operate/calls/found",
    "operate/dead_letters/item",
    "operate/doctor/report",
    "outbound/callback/address",
    "stan/denial",
    "upkeep/orphans/tally",
];

/// What pure code has no use for.
const IMPURE: &[&str] = &[
    "async fn",
    ".await",
    "tokio::",
    "tokio_util::",
    "reqwest::",
    "hyper::",
    "tracing::",
    "rand::",
    "SystemTime::now",
    "Instant::now",
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
];

/// The rooms that code names: in a path, and in a list of imports.
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                _ if begins && c.is_alphabetic() => {
                    names.insert(word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// What is wrong with a file of this room.
fn faults(path: &str, of: &Room, source: &str) -> Vec<String> {
    let code = code(source);
    let mut faults = Vec::new();
    for name in named(&code) {
        let is_room = ROOMS.iter().any(|room| room.name == name);
        if is_room && name != of.name && !of.calls.contains(&name.as_str()) {
            faults.push(format!("{path}: the room {} may not call {name}", of.name));
        }
    }
    if of.pure || PURE_FILES.iter().any(|file| path.contains(&format!("/src/{file}"))) {
        let impure = IMPURE.iter().filter(|word| code.contains(**word));
        faults.extend(impure.map(|word| format!("{path} is to be pure and has {word}")));
    }
    faults
}

fn room_of(path: &str) -> Option<&'static Room> {
    let (_, inside) = path.split_once("/src/")?;
    let (folder, _) = inside.split_once('/')?;
    ROOMS.iter().find(|room| room.name == folder)
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The files of all rooms.
fn files() -> Vec<(String, &'static Room, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/");
    let inside = |path: String| path.strip_prefix(root).map(|inside| format!("/src/{inside}"));
    let files = sources("src").into_iter().filter_map(|(path, source)| Some((inside(path)?, source)));
    files
        .filter(|(path, _)| !is_test(path))
        .filter_map(|(path, source)| Some((path.clone(), room_of(&path)?, source)))
        .collect()
}

#[test]
fn the_folders_of_src_are_the_rooms_in_the_order_of_the_library() {
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    found.sort();
    let mut expected: Vec<_> = ROOMS
        .iter()
        .map(|room| room.name.to_owned())
        .chain(["lib.rs".to_owned(), "main.rs".to_owned()])
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    let library = read("src/lib.rs");
    let modules: Vec<_> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, ROOMS.iter().map(|room| room.name).collect::<Vec<_>>());
}

#[test]
fn the_architecture_lists_the_rooms_in_the_same_order() {
    let text = read("docs/architecture.md");
    let written: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(room, _)| room)
        .collect();
    assert_eq!(written, ROOMS.iter().map(|room| room.name).collect::<Vec<_>>());
}

#[test]
fn a_room_calls_only_rooms_that_stand_before_it_and_pure_rooms_only_pure_ones() {
    for (at, room) in ROOMS.iter().enumerate() {
        for callee in room.calls {
            let found = ROOMS.iter().take(at).find(|before| before.name == *callee);
            let found = found.unwrap_or_else(|| panic!("{callee} does not stand before {}", room.name));
            assert!(found.pure || !room.pure, "{} is pure, and {callee} is not", room.name);
        }
    }
}

#[test]
fn imports_between_rooms_go_one_way() {
    let faults: Vec<_> = files().iter().flat_map(|(path, room, source)| faults(path, room, source)).collect();
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn the_head_of_a_room_says_what_it_may_call() {
    for room in ROOMS {
        // A long line goes on in the next one.
        let head = read(&format!("src/{}/mod.rs", room.name)).replace("\n//! ", " ");
        let calls = if room.calls.is_empty() { "none".to_owned() } else { room.calls.join(", ") };
        let line = format!("Calls: {calls}.{}", if room.pure { " Pure." } else { "" });
        let ends = |found: &str| found.strip_suffix(&line).is_some_and(|before| before.ends_with("//! "));
        assert!(head.lines().any(ends), "src/{}/mod.rs has no line `//! {line}`", room.name);
    }
}

#[test]
fn every_pure_file_is_there() {
    for file in PURE_FILES {
        let path = |end: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{file}{end}"));
        assert!(path(".rs").is_file() || path("/mod.rs").is_file(), "{file}");
    }
}

#[test]
fn a_planted_import_of_every_forbidden_pair_is_found() {
    for of in ROOMS {
        for other in ROOMS.iter().filter(|other| other.name != of.name) {
            let name = other.name;
            let path = format!("/src/{}/planted.rs", of.name);
            for planted in [
                format!("use crate::{name}::x;"),
                format!("use crate::{{{}::a, {name}::{{x, y}}}};", of.name),
                format!(
                    "use crate::{{\n    {}::{{\n        a,\n        b::{{c, d}},\n    }},\n\
                     \x20   {name}::x,\n}};",
                    of.name
                ),
                format!("fn f() {{ crate::{name}::x() }}"),
                format!("pub use crate::{name}::{{self as z}};"),
            ] {
                let found = faults(&path, of, &planted);
                let is_allowed = of.calls.contains(&name);
                assert_eq!(found.is_empty(), is_allowed, "{} to {name} by {planted}: {found:?}", of.name);
            }
            assert!(
                faults(
                    &path,
                    of,
                    &format!("// crate::{name}::x\n#[cfg(test)]\nmod tests {{ use crate::{name}::x; }}")
                )
                .is_empty()
            );
        }
    }
}

#[test]
fn a_planted_impurity_is_found() {
    let pure = ROOMS.iter().filter(|room| room.pure);
    for room in pure {
        for word in IMPURE {
            assert_eq!(
                faults(&format!("/src/{}/planted.rs", room.name), room, &format!("fn f() {{ {word} }}"))
                    .len(),
                1,
                "{word}"
            );
        }
    }
}
