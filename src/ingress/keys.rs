//! The callers' keys of late, and what was stored under each. The broker knows them, too; but once it was
//! restarted, only those of messages that it still holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ring::digest::{SHA256, digest};
use tokio::time::Instant;
use uuid::Uuid;

/// The most keys that are known: some ten megabytes.
const MOST: usize = 1 << 16;

/// What tells a key of a queue from all others.
pub(super) type Hash = [u8; 32];

/// What tells a request from any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// Its caller's.
    Told(String),
    /// Chance.
    Unique(Uuid),
}

impl Key {
    /// The hash of a caller's key in a queue.
    pub(super) fn hash(&self, queue: &str) -> Option<Hash> {
        let Self::Told(key) = self else { return None };
        let hash = digest(&SHA256, format!("{queue}\nkey {key}").as_bytes());
        hash.as_ref().try_into().ok()
    }

    /// The number that ids are made of.
    pub(super) fn number(&self, queue: &str) -> u128 {
        match self {
            Self::Told(_) => {
                let hash = self.hash(queue).unwrap_or_default();
                u128::from_be_bytes(hash.first_chunk().copied().unwrap_or_default())
            }
            Self::Unique(chance) => chance.as_u128(),
        }
    }
}

/// Keys, each with the sequence of what is stored under it.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sequences: HashMap<Hash, (u64, Instant)>,
    /// The oldest first.
    order: VecDeque<Hash>,
}

impl Keys {
    /// The sequence of what was stored under the key, for as long as the broker would know it.
    pub(super) fn find(&self, key: &Hash) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (sequence, until) = known.sequences.get(key)?;
        (Instant::now() < *until).then_some(*sequence)
    }

    /// Something is stored under the key, and the broker knows that for this `window`.
    pub(super) fn keep(&self, key: Hash, sequence: u64, window: Duration) {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { sequences, order } = &mut *known;
        if sequences.get(&key).is_some_and(|(_, until)| now < *until) {
            return;
        }
        if sequences.insert(key, (sequence, now + window)).is_none() {
            order.push_back(key);
        }
        let is_over = |key: &Hash| sequences.get(key).is_none_or(|(_, until)| *until <= now);
        let over = order.iter().take_while(|key| is_over(key)).count().max(order.len().saturating_sub(MOST));
        for key in order.drain(..over) {
            sequences.remove(&key);
        }
    }

    /// A stream was made anew, and nothing is stored there.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(120);

    fn key(n: u64) -> Hash {
        let mut key = Hash::default();
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }

    #[test]
    fn all_versions_make_the_same_id_of_a_key() {
        let told = Key::Told("k".to_owned());
        assert_eq!(format!("{:032x}", told.number("orders")), "7705c237d3fe987ecc8b3a58565c5ef7");
        assert_ne!(told.number("orders"), told.number("jobs"));
        let unique = Key::Unique(Uuid::from_u128(7));
        assert_eq!((unique.number("orders"), unique.hash("orders")), (7, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_known_for_as_long_as_the_broker_knows_it() {
        let keys = Keys::default();
        keys.keep(key(1), 7, WINDOW);
        // A second one under it is none.
        keys.keep(key(1), 8, WINDOW);
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert_eq!((keys.find(&key(1)), keys.find(&key(2))), (Some(7), None));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(keys.find(&key(1)), None);
        keys.keep(key(1), 9, WINDOW);
        assert_eq!(keys.find(&key(1)), Some(9));
        keys.forget();
        assert_eq!(keys.find(&key(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_are_known_than_there_is_room_for() {
        let keys = Keys::default();
        for n in 0..=MOST as u64 {
            keys.keep(key(n), n, WINDOW);
        }
        assert_eq!((keys.find(&key(0)), keys.find(&key(1))), (None, Some(1)));
        tokio::time::advance(WINDOW).await;
        keys.keep(key(0), 0, WINDOW);
        let known = keys.0.lock().unwrap();
        assert_eq!((known.sequences.len(), known.order.len()), (1, 1));
    }
}
