//! The way of a delivery: its calls go down, from the top of the path to the broker, and none back up.

use crate::{code, read};

/// The files of the way below `src/worker`, from its top. Each calls only those that stand below it.
const WAY: &[&str] = &[
    "process",
    "process/resume",
    "process/start",
    "process/attempt",
    "process/end",
    "process/post",
    "process/open",
    "process/parts",
    "delivery/settle",
    "delivery/settle/store",
    "delivery/settle/found",
    "delivery/settle/ask",
    "delivery",
    "delivery/lease",
];

/// The names of the methods that code defines.
fn methods(code: &str) -> impl Iterator<Item = &str> {
    let names = code.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
    names.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

/// The calls that go back up.
fn climbs(files: &[(&str, String)]) -> Vec<String> {
    let mut climbs = Vec::new();
    for (at, (file, code)) in files.iter().enumerate() {
        let above = files.iter().take(at).flat_map(|(_, code)| methods(code));
        let own: Vec<_> = methods(code).collect();
        let called = above.filter(|name| !own.contains(name) && code.contains(&format!("self.{name}(")));
        climbs.extend(called.map(|name| format!("{file} calls {name}")));
        let names_above = |room: &&str| file.starts_with("delivery") && code.contains(&format!("{room}::"));
        climbs.extend(
            ["process", "pull"]
                .iter()
                .filter(|room| names_above(room))
                .map(|room| format!("{file} names {room}")),
        );
    }
    climbs
}

fn way() -> Vec<(&'static str, String)> {
    WAY.iter().map(|file| (*file, code(&read(&format!("src/worker/{file}.rs"))))).collect()
}

#[test]
fn no_call_on_the_way_of_a_delivery_goes_back_up() {
    assert_eq!(climbs(&way()), Vec::<String>::new());
}

#[test]
fn a_planted_call_that_goes_back_up_is_found() {
    for (file, planted, found) in [
        ("delivery/settle/store", "self.settle(delivery, disposition)", "delivery/settle/store calls settle"),
        ("process/post", "self.end(delivery, context, None, None)", "process/post calls end"),
        ("process/end", "self.path(delivery, opened)", "process/end calls path"),
        ("delivery/settle", "use crate::worker::process::Worker;", "delivery/settle names process"),
    ] {
        let mut way = way();
        let (_, code) = way.iter_mut().find(|(other, _)| *other == file).unwrap();
        code.push_str(planted);
        assert_eq!(climbs(&way), [found]);
    }
}
