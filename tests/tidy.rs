//! What the project promises about itself, read off its own files.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a file that cannot be read is a failed test")]

use std::{ffi::OsString, fs, path::Path};

use queue_worker::{config, metrics};

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
        "names",
        "timer",
        "callback/address",
        "callback/allowed",
        "callback/posting",
        "callback/verdict",
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
fn only_settle_the_lease_the_movers_and_who_lays_ghosts_acknowledge() {
    for (path, source) in sources("src") {
        let allowed =
            ["settle.rs", "lease.rs", "levels.rs", "ghosts.rs", "broker.rs", "jetstream.rs"].iter().any(|file| path.ends_with(file));
        assert!(allowed || !source.contains(".acknowledge(&"), "{path} acknowledges by itself");
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
