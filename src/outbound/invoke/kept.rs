//! The kept part of an answer's body, within the memory that all answers share.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::HEAD;
use crate::flow::memory::{Room, Share};

/// Room is asked for in steps of so many bytes, where it is known how many there will be.
const STEP: usize = 256 << 10;

/// The part of a body that is kept.
pub(super) struct Kept {
    bytes: Vec<u8>,
    share: Share,
    most: usize,
    /// The length of the body, if the answer says it.
    expected: Option<usize>,
}

impl Kept {
    /// Keeps at most `most` bytes.
    pub fn new(room: &Room, most: usize, expected: Option<u64>) -> Self {
        let expected = expected.map(|bytes| usize::try_from(bytes).map_or(most, |bytes| bytes.min(most)));
        Self { bytes: Vec::new(), share: room.share(), most, expected }
    }

    /// Keeps as much of it as is to be kept, and says how long that had to wait for room. If there is none
    /// for long, nothing more is kept.
    pub async fn add(&mut self, data: &[u8]) -> Duration {
        let data = data.get(..data.len().min(self.most.saturating_sub(self.bytes.len()))).unwrap_or_default();
        if data.is_empty() {
            return Duration::ZERO;
        }
        let needed = self.bytes.len() + data.len();
        let (room, capacity) = match self.expected {
            // Memory that is not written to costs nothing yet.
            Some(expected) if needed <= expected => (needed.next_multiple_of(STEP).min(expected), expected),
            _ if needed <= self.bytes.capacity() => (needed, needed),
            _ => {
                let grown = (needed + needed / 2).min(self.most);
                (grown, grown)
            }
        };
        let began = Instant::now();
        let is_room = self.share.grow(room).await;
        let waited = began.elapsed();
        if !is_room {
            // The beginning says whose answer it is, and is small.
            let head = data.get(..data.len().min(HEAD.saturating_sub(self.bytes.len()))).unwrap_or_default();
            self.bytes.extend_from_slice(head);
            self.most = self.bytes.len();
            return waited;
        }
        self.bytes.reserve_exact(capacity.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(data);
        waited
    }

    /// The part that was kept so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `most` bytes, which have their room for as long as anybody holds them.
    pub fn into_bytes(mut self, most: usize) -> Bytes {
        self.bytes.truncate(most);
        if self.bytes.is_empty() { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_more_is_kept_than_is_wanted_and_no_more_taken_than_half_as_much_again() {
        for expected in [None, Some(0), Some(1_000), Some(1_000_000), Some(u64::MAX)] {
            let mut kept = Kept::new(&Room::of(1 << 30), 1_000_000, expected);
            for _ in 0..1_100 {
                kept.add(&[b'x'; 1_000]).await;
                assert!(kept.bytes.capacity() <= 1_000_000);
            }
            assert_eq!((kept.bytes().len(), kept.into_bytes(999_999).len()), (1_000_000, 999_999));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_for_long_is_cut() {
        let room = Room::of(STEP);
        let (mut all, mut beyond) = (room.share(), room.share());
        all.grow(STEP).await;
        beyond.grow(STEP).await;
        let mut kept = Kept::new(&room, STEP, None);
        let waited = kept.add(&[0; 1_000]).await;
        assert!((120..121).contains(&waited.as_secs()), "{waited:?}");
        assert_eq!((kept.add(&[0; 1_000]).await, kept.into_bytes(STEP).len()), (Duration::ZERO, HEAD));
    }

    #[tokio::test]
    async fn the_room_is_free_when_nobody_holds_the_answer() {
        let room = Room::of(STEP);
        let mut beyond = room.share();
        let mut first = Kept::new(&room, STEP, None);
        first.add(&[0; STEP]).await;
        beyond.grow(1).await;
        let mut second = Kept::new(&room, STEP, None);
        assert!(second.add(&[0; STEP]).now_or_never().is_none());
        let bytes = first.into_bytes(STEP);
        let slice = bytes.slice(..1);
        drop(bytes);
        assert!(second.add(&[0; STEP]).now_or_never().is_none());
        drop(slice);
        assert!(second.add(&[0; STEP]).now_or_never().is_some());
    }
}
