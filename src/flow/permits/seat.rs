//! A delivery's seat among the calls that run at once. It is given up while the broker keeps the delivery
//! waiting, so that others are called meanwhile, and taken again before anything is begun.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{Permit, Permits};
use crate::flow::gate::Pass;

/// The seat of one delivery. One without a permit is for what is handed back only.
#[derive(Debug, Default)]
pub struct Seat {
    /// Whose permit it has, to have one again.
    of: Option<(Permits, usize)>,
    held: Mutex<(Option<Permit>, Option<Pass>)>,
    begun: AtomicBool,
}

impl Seat {
    /// A seat that is taken.
    pub fn new(permit: Permit) -> Self {
        Self {
            of: Some((permit.permits.clone(), permit.lane)),
            held: Mutex::new((Some(permit), None)),
            begun: AtomicBool::new(false),
        }
    }

    /// Keeps the gate's pass for as long as the permit.
    pub(crate) fn keep(&self, pass: Pass) {
        self.held().1 = Some(pass);
    }

    /// Gives the permit back, and the pass: what waits for the broker runs nothing that could kill the
    /// worker.
    pub(crate) fn leave(&self) {
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }

    /// Waits for a permit again if it was given back: a call or a callback begins now.
    pub(crate) async fn begin(&self) {
        if let Some((permits, lane)) = self.of.as_ref().filter(|_| self.held().0.is_none()) {
            let permit = permits.again(*lane).await;
            self.held().0 = Some(permit);
        }
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether anything was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, (Option<Permit>, Option<Pass>)> {
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
        let mut begin = Box::pin(seat.begin());
        assert!((&mut begin).now_or_never().is_none());
        assert!(!seat.has_begun());
        drop(other);
        assert!(begin.now_or_never().is_some());
        assert!(seat.has_begun() && lane.take_free(1).is_empty());
        drop(seat);
        assert_eq!(lane.take_free(1).len(), 1);
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
        let (mut one, mut two) = (Box::pin(first.begin()), Box::pin(second.begin()));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        // The place of one that is gone passes to the next.
        drop(one);
        drop(running);
        assert!(two.now_or_never().is_some());
        assert!(fresh.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_seat_without_a_permit_waits_for_none_and_one_that_is_taken_begins_at_once() {
        Seat::default().begin().await;
        let lane = Permits::new(1).lanes(1).remove(0);
        Seat::new(lane.take_free(1).remove(0)).begin().await;
        assert_eq!(lane.take_free(1).len(), 1);
    }
}
