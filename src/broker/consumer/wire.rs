//! How much the open requests of a process may bring at once.
//!
//! A server cuts a connection off as a slow consumer when more than 64 MiB (`max_pending`, by default) wait
//! there to be written to it, and what was on its way is lost. All lanes and promoters of a process share one
//! connection. So each request that asks for several messages has a share of what is left, and at least room
//! for one message of any size.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Half of what a server keeps: the other half is for answers, and for what a request that was given up still
/// brings.
const MOST: usize = 32 << 20;
/// Beside so much that is to come there is room for another request.
pub(super) const LITTLE: usize = MOST / 8;
/// Room for a delivery's subject and for the subject of its acknowledgement.
const SUBJECTS: usize = 4 << 10;

/// The bytes that the open requests of a connection may bring. Cheap to clone; the clones agree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<AtomicUsize>);

/// A request's share, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    wire: Wire,
    largest: usize,
    pub(super) bytes: usize,
}

impl Wire {
    /// Whether there is room for one more request, of which each message may have `max_payload` bytes.
    pub(super) fn has_room(&self, max_payload: usize) -> bool {
        self.0.load(Ordering::Relaxed).saturating_add(max_payload) <= MOST
    }

    /// A share for so many messages, of up to `max_payload` bytes each: half of what is left, or less if that
    /// is enough.
    pub(super) fn share(&self, messages: usize, max_payload: usize) -> Share {
        let largest = max_payload.saturating_add(SUBJECTS);
        let bytes = |taken: usize| {
            messages.saturating_mul(largest).min((MOST.saturating_sub(taken) / 2).max(largest))
        };
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            Some(taken.saturating_add(bytes(taken)))
        });
        // It never fails.
        Share { wire: self.clone(), largest, bytes: bytes(taken.unwrap_or_default()) }
    }
}

impl Share {
    /// How many messages may be asked for, and how many bytes of them where their number does not say it.
    /// Where the server takes `most` of them, or none, and that is less than one message may have, it is told
    /// a number only.
    pub(super) fn limits(&self, messages: usize, most: Option<usize>) -> (usize, Option<usize>) {
        if messages.saturating_mul(self.largest) <= self.bytes {
            return (messages, None);
        }
        let bytes = most.map(|most| self.bytes.min(most)).filter(|bytes| *bytes >= self.largest);
        if bytes.is_some() {
            return (messages, bytes);
        }
        ((self.bytes / self.largest).max(1), None)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.wire.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn each_request_has_half_of_what_is_left_and_room_for_one_message_at_least() {
        let wire = Wire::default();
        let shares: Vec<_> = (0..20).map(|_| wire.share(128, MIB)).collect();
        assert_eq!([shares[0].bytes, shares[1].bytes, shares[19].bytes], [16 * MIB, 8 * MIB, MIB + SUBJECTS]);
        let all: usize = shares.iter().map(|share| share.bytes).sum();
        assert!(all <= MOST + 20 * (MIB + SUBJECTS), "{all}");
        assert!(!wire.has_room(MIB));
        drop(shares);
        assert!(wire.has_room(MIB));
        assert_eq!(wire.share(128, MIB).bytes, 16 * MIB);
        // No more than it needs.
        assert_eq!(wire.share(2, MIB).bytes, 2 * (MIB + SUBJECTS));
    }

    #[test]
    fn a_request_is_bounded_in_bytes_where_the_server_keeps_to_them_and_else_in_messages() {
        let share = |max_payload| Wire::default().share(128, max_payload);
        let most = Some(usize::MAX);
        assert_eq!(share(65_536).limits(128, most), (128, None));
        assert_eq!(share(MIB).limits(128, most), (128, Some(16 * MIB)));
        assert_eq!(share(MIB).limits(128, Some(9 * MIB)), (128, Some(9 * MIB)));
        assert_eq!(share(MIB).limits(128, None), (15, None));
        // Fewer bytes than one message may have would be refused for ever.
        assert_eq!(share(MIB).limits(128, Some(MIB)), (15, None));
        assert_eq!(share(64 * MIB).limits(128, None), (1, None));
        assert_eq!(share(64 * MIB).limits(1, most), (1, None));
    }
}
