//! A delivery's seat among the calls that run at once. It is given up while the broker keeps the delivery
//! waiting, so that others are called meanwhile, and taken again before anything is begun. A delivery whose
//! acknowledgement is on its way departs: nothing is begun any more.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{Departed, Permit, Permits};
use crate::flow::gate::Pass;

/// The seat of one delivery. One without a permit is for what is handed back only.
#[derive(Debug, Default)]
pub struct Seat {
    /// Whose permit it has, to have one again.
    of: Option<(Permits, usize)>,
    held: Mutex<Held>,
    begun: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    permit: Option<Permit>,
    pass: Option<Pass>,
    departed: Option<Departed>,
}

impl Seat {
    /// A seat that is taken.
    pub fn new(permit: Permit) -> Self {
        Self {
            of: Some((permit.permits.clone(), permit.lane)),
            held: Mutex::new(Held { permit: Some(permit), ..Held::default() }),
            begun: AtomicBool::new(false),
        }
    }

    /// Keeps the gate's pass for as long as the permit.
    pub(crate) fn keep(&self, pass: Pass) {
        self.held().pass = Some(pass);
    }

    /// Gives the permit back, and the pass: what waits for the broker runs nothing that could kill the
    /// worker.
    pub(crate) fn leave(&self) {
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }

    /// Gives the permit back to whoever is called next, but for the room of the message, while the broker is
    /// to confirm its acknowledgement. As many may do so at once as there are permits; one more keeps its
    /// own.
    pub(crate) fn depart(&self) {
        let held = &mut *self.held();
        if let Some(permit) = held.permit.take() {
            match permit.depart() {
                Ok(departed) => (held.departed, held.pass) = (Some(departed), None),
                Err(permit) => held.permit = Some(permit),
            }
        }
    }

    /// Begins a call or a callback, as soon as there is a permit again if it was given back. Returns whether
    /// it began before all was `cut` off.
    pub(crate) async fn begin_unless(&self, cut: &CancellationToken) -> bool {
        // Hardly any waits, and each comes by here.
        !cut.is_cancelled() && (self.begin_now() || cut.run_until_cancelled(self.begin()).await.is_some())
    }

    /// Begins, and returns true; false where the permit was given back.
    fn begin_now(&self) -> bool {
        let may_begin = self.of.is_none() || self.held().permit.is_some();
        if may_begin {
            self.begun.store(true, Ordering::Relaxed);
        }
        may_begin
    }

    async fn begin(&self) {
        if let Some((permits, lane)) = &self.of {
            let permit = permits.again(*lane).await;
            self.held().permit = Some(permit);
        }
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether anything was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_seat_that_is_left_is_had_by_another_and_waited_for_before_anything_begins() {
        let mut lane = Permits::new(1).lanes(1).remove(0);
        let seat = Seat::new(lane.take_free(1).remove(0));
        assert!(lane.take_free(1).is_empty());
        seat.leave();
        seat.leave();
        let other = lane.acquire().now_or_never().expect("free");
        let cut = CancellationToken::new();
        let mut begin = Box::pin(seat.begin_unless(&cut));
        assert_eq!((&mut begin).now_or_never(), None);
        assert!(!seat.has_begun());
        drop(other);
        assert_eq!(begin.now_or_never(), Some(true));
        assert!(seat.has_begun() && lane.take_free(1).is_empty());
        drop(seat);
        assert_eq!(lane.take_free(1).len(), 1);
    }

    #[test]
    fn one_that_departs_leaves_its_permit_and_keeps_its_room_until_it_is_gone() {
        let permits = Permits::within(1, 20, 10);
        let mut lane = permits.lane();
        let first = Seat::new(lane.take_free(1).remove(0));
        first.depart();
        first.depart();
        let second = Seat::new(lane.take_free(1).remove(0));
        // No more depart than there are permits.
        second.depart();
        assert!(lane.take_free(1).is_empty());
        let mut third = Box::pin(lane.acquire());
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second one has its permit");
        second.depart();
        let third = third.now_or_never().expect("the second one departed");
        drop((second, third));
        assert_eq!(permits.lanes(1).remove(0).take_free(9).len(), 1);
    }

    #[test]
    fn those_that_come_back_are_served_before_those_that_come() {
        let mut lane = Permits::new(2).lanes(1).remove(0);
        let [first, second] = [(); 2].map(|()| Seat::new(lane.take_free(1).remove(0)));
        first.leave();
        second.leave();
        let running = lane.take_free(2);
        let mut fresh = Box::pin(lane.acquire());
        assert!((&mut fresh).now_or_never().is_none());
        let cut = CancellationToken::new();
        let (mut one, mut two) = (Box::pin(first.begin_unless(&cut)), Box::pin(second.begin_unless(&cut)));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        // The place of one that is gone passes to the next.
        drop(one);
        drop(running);
        assert_eq!(two.now_or_never(), Some(true));
        assert!(fresh.now_or_never().is_some());
    }

    #[test]
    fn nothing_begins_that_is_cut_off_with_a_permit_or_while_it_waits_for_one() {
        let lane = Permits::new(1).lanes(1).remove(0);
        let (seat, cut) = (Seat::new(lane.take_free(1).remove(0)), CancellationToken::new());
        seat.leave();
        let other = lane.take_free(1);
        let mut begin = Box::pin(seat.begin_unless(&cut));
        assert_eq!((&mut begin).now_or_never(), None);
        cut.cancel();
        assert_eq!(begin.now_or_never(), Some(false));
        drop(other);
        let taken = Seat::new(lane.take_free(1).remove(0));
        assert_eq!(taken.begin_unless(&cut).now_or_never(), Some(false));
        assert!(!seat.has_begun() && !taken.has_begun());
    }

    #[tokio::test]
    async fn a_seat_without_a_permit_waits_for_none_and_one_that_is_taken_begins_at_once() {
        let cut = CancellationToken::new();
        assert!(Seat::default().begin_unless(&cut).await);
        let lane = Permits::new(1).lanes(1).remove(0);
        let seat = Seat::new(lane.take_free(1).remove(0));
        assert!(!seat.has_begun() && seat.begin_unless(&cut).await && seat.has_begun());
        drop(seat);
        assert_eq!(lane.take_free(1).len(), 1);
    }
}
