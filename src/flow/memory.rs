//! Room in memory for what functions answered, over all calls of a process.
//!
//! An answer that a callback is to carry is in memory until the callback was posted or stored. The answers of
//! all calls share so many bytes, and one that finds no room waits: it is read more slowly, and loses
//! nothing. If all of them waited for each other, none would end, so that one of them at a time may have more
//! than its share.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The unit in which room is given out, in bytes.
const UNIT: usize = 1 << 10;
/// How long anybody waits for room. Its holders post a callback, or wait for the broker or for a permit;
/// should those wait for this one in turn, it ends here.
const PATIENCE: Duration = Duration::from_secs(120);

/// The room of a process. The clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
}

impl Room {
    /// Room for so many bytes, and for one answer beyond them.
    pub fn of(bytes: usize) -> Self {
        let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), beyond: Arc::new(Semaphore::new(1)) }
    }

    /// A share of it, with nothing in it yet.
    pub fn share(&self) -> Share {
        Share { room: self.clone(), bytes: 0, held: None, beyond: None }
    }
}

/// One answer's share of the room. Dropped, it is free for others.
#[derive(Debug)]
pub struct Share {
    room: Room,
    bytes: usize,
    held: Option<OwnedSemaphorePermit>,
    /// The one that has this need not ask for more.
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Waits until there is room for so many bytes in all, and says whether there is.
    pub async fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.div_ceil(UNIT).saturating_sub(self.bytes.div_ceil(UNIT));
        if self.beyond.is_none() && more > 0 && timeout(PATIENCE, self.take(more)).await.is_err() {
            return false;
        }
        self.bytes = self.bytes.max(bytes);
        true
    }

    async fn take(&mut self, more: usize) {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Room { units, beyond } = self.room.clone();
        tokio::select! {
            biased;
            // Neither is ever closed.
            Ok(units) = units.acquire_many_owned(more) => match &mut self.held {
                Some(held) => held.merge(units),
                none => *none = Some(units),
            },
            Ok(beyond) = beyond.acquire_owned() => self.beyond = Some(beyond),
            else => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn now(share: &mut Share, kib: usize) -> bool {
        share.grow(kib << 10).now_or_never().is_some_and(|is_room| is_room)
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_until_there_is_some() {
        let room = Room::of(10 << 10);
        let mut shares: [Share; 4] = std::array::from_fn(|_| room.share());
        let [a, b, c, d] = &mut shares;
        assert!(now(a, 4) && now(b, 4) && now(a, 6));
        // One may have more than there is, and as much as it needs.
        assert!(now(c, 1) && now(c, 100) && !now(d, 1) && !now(b, 5));
        drop(std::mem::replace(a, room.share()));
        assert!(now(b, 10) && !now(d, 1));
        drop(std::mem::replace(c, room.share()));
        assert!(now(d, 1), "the next one goes beyond");
    }

    #[tokio::test]
    async fn what_is_more_than_all_the_room_goes_beyond_it_alone() {
        let room = Room::of(1);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(now(&mut one, 64 << 10) && now(&mut other, 1) && !now(&mut other, 2));
        drop(one);
        assert!(now(&mut other, 2));
    }

    #[tokio::test]
    async fn answers_that_all_want_more_than_there_is_come_through_one_after_the_other() {
        let room = Room::of(8 << 10);
        let mut answers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let mut share = room.share();
            answers.spawn(async move {
                for kib in 1..=10 {
                    assert!(share.grow(kib << 10).await);
                    tokio::task::yield_now().await;
                }
            });
        }
        assert_eq!(answers.join_all().await.len(), 50);
        assert_eq!((room.units.available_permits(), room.beyond.available_permits()), (8, 1));
    }
}
