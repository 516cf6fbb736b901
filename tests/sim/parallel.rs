//! Runs many plans side by side, each in a world of its own.

use std::{
    collections::BTreeMap,
    io::{Write, stderr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Sum {
    pub runs: usize,
    pub tally: BTreeMap<&'static str, usize>,
    /// What broke, by how each run is named.
    pub failed: Vec<String>,
}

impl Sum {
    pub fn add(&mut self, what: &'static str, number: usize) {
        *self.tally.entry(what).or_default() += number;
    }

    /// Tells the figures in one line, which tests that pass would keep to themselves if it were printed.
    pub fn report(&self, test: &str, what: &str) {
        let figures: Vec<String> =
            self.tally.iter().map(|(what, number)| format!("{number} {what}")).collect();
        let failed = self.failed.len();
        let _ = writeln!(
            stderr(),
            "simulation, {test}: {} {what}, {failed} failed; {}",
            self.runs,
            figures.join(", ")
        );
    }
}

/// Does `work` with each item, on all cores.
pub fn each<T: Sync>(items: &[T], work: impl Fn(&T, &mut Sum) + Sync) -> Sum {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::default()));
    let some = || {
        let mut own = Sum::default();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            own.runs += 1;
            work(item, &mut own);
        }
        let mut sum = sum.lock().unwrap();
        sum.runs += own.runs;
        sum.failed.extend(own.failed);
        own.tally.into_iter().for_each(|(what, number)| sum.add(what, number));
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(some);
        }
    });
    let mut sum = sum.into_inner().unwrap();
    sum.failed.sort();
    sum
}
