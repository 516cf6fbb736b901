//! What happens beside the usual way: drops, refusals, a janitor's moves, damage.

use queue_worker::message::record::Record;
use tokio::time::Instant;

use super::{Ledger, What};
use crate::{gzip, stored::Stored};

/// What headers take at most that are left out of a message only where it would not be stored at all.
const LEAST_HEADERS: usize = 1_500;
/// How often a message may be handed on at once.
const HANDED_ON: usize = 10;

impl Ledger {
    /// How many drops the workers show.
    pub(super) fn drops_counted(&self) -> u64 {
        let page = self.registry.render();
        let figure =
            page.lines().find_map(|line| line.strip_prefix("queue_worker_dead_letters_dropped_total "));
        figure.map_or(0, |figure| figure.parse().unwrap())
    }

    /// A janitor deletes what a schedule should have moved.
    pub fn deleted(&mut self, stored: &Stored) {
        let (key, generation) = (self.key(&stored.record), stored.generation());
        self.note(|| format!("deleted {key} generation {generation}"));
        self.moved += 1;
        let kind = if stored.is_callback() { What::Callback } else { What::Call };
        let moved = self.stored.contains_key(&(key.clone(), generation, kind, "due".to_owned()));
        self.require(moved, || format!("{key} generation {generation} left its schedule and came nowhere"));
    }

    /// A janitor moved what its schedule should have moved.
    pub fn fired(&mut self) {
        self.moved += 1;
    }

    /// What follows from a message fits nowhere, and it stays. Said too late it hits whoever holds the
    /// message by then.
    pub fn refused(&mut self, stored: &Stored, late: bool, max_payload: usize) {
        let key = self.key(&stored.record);
        self.note(|| format!("refused {key}"));
        let least = gzip::least(&stored.record.payload);
        self.require(late || least + LEAST_HEADERS > max_payload, || {
            format!("{key} is refused though what follows would fit")
        });
        let waited = self.began.elapsed().as_secs() as usize;
        let account = self.account(&key);
        account.refused += 1;
        account.copied |= late;
        account.lost.push(Instant::now());
        account.callback.iter_mut().for_each(|callback| callback.again = true);
        let refused = account.refused;
        // Each drain may hand it to the next worker at once.
        self.require(refused <= waited + HANDED_ON, || {
            format!("{key} was tried {refused} times in {waited} s")
        });
    }

    /// Something that is parked is damaged.
    pub fn damaged(&mut self, record: &Record) {
        let key = self.key(record);
        self.note(|| format!("{key} is damaged"));
        let account = self.account(&key);
        (account.damaged, account.copied) = (true, true);
    }
}
