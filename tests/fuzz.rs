//! The properties of the fuzzers, over their corpus and over inputs near it: what was ever found stays
//! mended, and every run of the tests looks a little further. `make fuzz` looks for minutes, and is led by
//! what the code does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a property that does not hold is a failed test"
)]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

#[path = "../fuzz/src/lib.rs"]
mod properties;

/// How many inputs near the corpus each target gets.
const NEARBY: u64 = 2_000;

/// The inputs of a target, with their files' names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.display().to_string(), fs::read(&file).unwrap())).collect()
}

/// Runs a property, and says of which input it does not hold.
fn check(property: properties::Property, name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| property(input))).is_err() {
        panic!("{name}: {}", input.escape_ascii());
    }
}

/// One input with a few bytes changed, taken out, said twice or taken from another.
fn nearby(rng: &mut StdRng, one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut near = one.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=near.len());
        let to = (at + rng.random_range(0..9)).min(near.len());
        match rng.random_range(0..5) {
            0 => near.insert(at, rng.random()),
            1 => drop(near.drain(at..to)),
            2 => near[at..to].iter_mut().for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            3 => near.extend_from_within(at..to),
            _ => {
                let from = rng.random_range(0..=other.len());
                near.splice(at..to, other[from..(from + 16).min(other.len())].iter().copied());
            }
        }
    }
    near
}

#[test]
fn the_properties_hold_of_the_corpus() {
    for (target, property) in properties::ALL {
        let inputs = corpus(target);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for (name, input) in &inputs {
            check(property, name, input);
        }
    }
}

#[test]
fn the_properties_hold_of_inputs_near_the_corpus() {
    for (target, property) in properties::ALL {
        let inputs = corpus(target);
        for seed in 0..NEARBY {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut any = || &inputs[rng.random_range(0..inputs.len())].1;
            let (one, other) = (any(), any());
            check(property, &format!("{target}, seed {seed}"), &nearby(&mut rng, one, other));
        }
    }
}

#[test]
fn every_target_has_a_property_and_a_corpus() {
    let names = |folder: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().display().to_string())
            .collect();
        names.sort();
        names
    };
    let all: Vec<_> = properties::ALL.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(names("corpus"), all);
    assert_eq!(names("targets").into_iter().filter(|name| name != "measured").collect::<Vec<_>>(), all);
}
