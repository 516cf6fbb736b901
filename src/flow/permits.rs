//! Permits to start a call. The permits of a process are shared by lanes (the consumers it pulls from),
//! so that neither fresh nor due work starves the other: while several lanes have work, none holds more than
//! its share, and a freed permit goes to the waiting lane that holds the fewest, the longest-unserved first.

mod seat;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

pub use seat::Seat;

/// The permits of one process.
#[derive(Debug, Clone)]
pub struct Permits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: usize,
    /// Fewer than none while permits that were withdrawn are still held.
    free: isize,
    turn: u64,
    /// The number of the next group.
    next: usize,
    lanes: Vec<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Whose share of the permits it has a part in.
    group: Group,
    /// Whether nobody pulls for it any more; calls that it began may still run.
    left: bool,
    held: usize,
    /// Whether more work is known to wait in this lane.
    hungry: bool,
    last_served: u64,
    waiter: Option<oneshot::Sender<Permit>>,
    /// Deliveries that gave their permits back and want them again. They are served first: they came first.
    returning: VecDeque<oneshot::Sender<Permit>>,
}

impl LaneState {
    fn waits(&self) -> bool {
        self.waiter.is_some() || !self.returning.is_empty()
    }
}

/// Lanes that have one share of the permits together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group(usize);

/// One consumer's side of the permits. A lane waits for one permit at a time.
#[derive(Debug)]
pub struct Lane {
    permits: Permits,
    index: usize,
}

/// The right to run one call. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Permits,
    lane: usize,
}

impl Permits {
    /// `limit` permits, and no lane yet.
    pub fn new(limit: usize) -> Self {
        let free = isize::try_from(limit).unwrap_or(isize::MAX);
        Self(Arc::new(Mutex::new(State { limit, free, turn: 0, next: 0, lanes: Vec::new() })))
    }

    /// One more lane that shares the permits: each queue adds its own when it is ready, and again when they
    /// have ended.
    pub fn lane(&self) -> Lane {
        self.lane_of(self.group())
    }

    /// A share that several lanes are to have together.
    pub fn group(&self) -> Group {
        let mut state = self.state();
        state.next += 1;
        Group(state.next)
    }

    /// One more lane of those that have this share together.
    pub fn lane_of(&self, group: Group) -> Lane {
        Lane { permits: self.clone(), index: self.state().place(group) }
    }

    /// `count` more lanes.
    pub fn lanes(&self, count: usize) -> Vec<Lane> {
        (0..count).map(|_| self.lane()).collect()
    }

    /// Leaves half as many permits as are in use now, and one at least; those that are held stay so until
    /// they are dropped. Returns how many are gone.
    pub fn withdraw_half(&self) -> usize {
        let mut state = self.state();
        let held: usize = state.lanes.iter().map(|lane| lane.held).sum();
        let left = state.limit.min(held.div_ceil(2)).max(1);
        let gone = state.limit - left;
        state.limit = left;
        state.free = state.free.saturating_sub_unsigned(gone);
        gone
    }

    /// Permits that were withdrawn are there again.
    pub fn give_back(&self, count: usize) {
        let mut state = self.state();
        state.limit += count;
        state.free = state.free.saturating_add_unsigned(count);
        self.serve(&mut state);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics; should one ever, the counts are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands free permits to the lanes that wait for one.
    fn serve(&self, state: &mut State) {
        while let Some(index) = state.next_served() {
            let lane = state.lanes.get_mut(index);
            let Some(waiter) =
                lane.and_then(|lane| lane.returning.pop_front().or_else(|| lane.waiter.take()))
            else {
                return;
            };
            if let Err(unwanted) = waiter.send(state.grant(self, index)) {
                // Its drop would take the lock that is held here.
                std::mem::forget(unwanted);
                state.take_back(index);
            }
        }
    }

    /// Waits for a permit of this lane, beside the lane's own waiting. Dropping the future gives up the
    /// place.
    async fn again(&self, index: usize) -> Permit {
        loop {
            let (sender, granted) = oneshot::channel();
            {
                let mut state = self.state();
                if let Some(lane) = state.lanes.get_mut(index) {
                    lane.returning.push_back(sender);
                }
                self.serve(&mut state);
            }
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }
}

impl State {
    /// A place for a lane: one that another left, or a new one.
    fn place(&mut self, group: Group) -> usize {
        let left = self.lanes.iter_mut().enumerate().find(|(_, lane)| lane.left && lane.held == 0);
        if let Some((index, lane)) = left {
            (lane.left, lane.group) = (false, group);
            return index;
        }
        self.lanes.push(LaneState { group, ..LaneState::default() });
        self.lanes.len() - 1
    }

    /// Whether the lane may have one more while the others have work too.
    fn allows(&self, index: usize) -> bool {
        let Some(lane) = self.lanes.get(index) else { return false };
        let wants = |other: &LaneState| other.hungry || other.waits() || other.group == lane.group;
        // Of each group one lane is counted: the first that wants any.
        let is_first = |(at, lane): &(usize, &LaneState)| {
            let mut before = self.lanes.iter().take(*at);
            wants(lane) && !before.any(|other| other.group == lane.group && wants(other))
        };
        let hungry = self.lanes.iter().enumerate().filter(is_first).count();
        let share = self.limit.div_ceil(hungry.max(1));
        self.free > 0 && self.held(lane.group) < share
    }

    /// How many permits the lanes of a group have.
    fn held(&self, group: Group) -> usize {
        self.lanes.iter().filter(|lane| lane.group == group).map(|lane| lane.held).sum()
    }

    fn next_served(&self) -> Option<usize> {
        let waiting =
            self.lanes.iter().enumerate().filter(|(index, lane)| lane.waits() && self.allows(*index));
        waiting.min_by_key(|(_, lane)| (self.held(lane.group), lane.last_served)).map(|(index, _)| index)
    }

    fn grant(&mut self, permits: &Permits, index: usize) -> Permit {
        self.free -= 1;
        self.turn += 1;
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.held += 1;
            lane.last_served = self.turn;
        }
        Permit { permits: permits.clone(), lane: index }
    }

    fn take_back(&mut self, index: usize) {
        self.free += 1;
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.held -= 1;
        }
    }
}

impl Lane {
    /// Says whether more work is known to wait here. While it does, the other lanes leave this one its share.
    pub fn set_hungry(&self, hungry: bool) {
        let mut state = self.permits.state();
        if let Some(lane) = state.lanes.get_mut(self.index) {
            lane.hungry = hungry;
        }
        self.permits.serve(&mut state);
    }

    /// Waits for a permit. Dropping the future gives up the place.
    pub async fn acquire(&mut self) -> Permit {
        loop {
            let granted = {
                let mut state = self.permits.state();
                let (sender, granted) = oneshot::channel();
                if let Some(lane) = state.lanes.get_mut(self.index) {
                    lane.waiter = Some(sender);
                }
                self.permits.serve(&mut state);
                granted
            };
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Up to `most` further permits that are free now and within this lane's share.
    pub fn take_free(&self, most: usize) -> Vec<Permit> {
        let mut state = self.permits.state();
        let mut taken = Vec::new();
        while taken.len() < most && state.allows(self.index) {
            taken.push(state.grant(&self.permits, self.index));
        }
        taken
    }
}

impl Drop for Lane {
    /// A lane that nobody pulls for is owed no share.
    fn drop(&mut self) {
        let mut state = self.permits.state();
        if let Some(lane) = state.lanes.get_mut(self.index) {
            (lane.left, lane.hungry, lane.waiter) = (true, false, None);
        }
        self.permits.serve(&mut state);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.state();
        state.take_back(self.lane);
        self.permits.serve(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn two(limit: usize) -> (Lane, Lane) {
        let mut lanes = Permits::new(limit).lanes(2);
        let due = lanes.pop().unwrap();
        (lanes.pop().unwrap(), due)
    }

    #[test]
    fn a_lane_alone_gets_every_permit() {
        let (fresh, _due) = two(5);
        assert_eq!(fresh.take_free(9).len(), 5);
    }

    #[test]
    fn a_lane_leaves_a_hungry_one_its_half() {
        let (fresh, due) = two(5);
        due.set_hungry(true);
        let fresh_held = fresh.take_free(9);
        fresh.set_hungry(true);
        assert_eq!((fresh_held.len(), due.take_free(9).len()), (3, 2));
    }

    #[test]
    fn lanes_of_a_group_have_one_share_together() {
        let permits = Permits::new(8);
        let (fresh, group) = (permits.lane(), permits.group());
        let (due, held) = (permits.lane_of(group), permits.lane_of(group));
        for lane in [&fresh, &due, &held] {
            lane.set_hungry(true);
        }
        let first = held.take_free(3);
        assert_eq!((due.take_free(9).len(), first.len()), (1, 3));
        assert_eq!(fresh.take_free(9).len(), 4);
    }

    #[test]
    fn one_permit_goes_from_lane_to_lane() {
        let (mut fresh, mut due) = two(1);
        fresh.set_hungry(true);
        due.set_hungry(true);
        let mut running = fresh.acquire().now_or_never().unwrap();
        for _ in 0..3 {
            let mut waiting_fresh = Box::pin(fresh.acquire());
            let mut waiting_due = Box::pin(due.acquire());
            assert!((&mut waiting_fresh).now_or_never().is_none());
            assert!((&mut waiting_due).now_or_never().is_none());
            drop(running);
            let due_permit = waiting_due.now_or_never().expect("the due lane's turn");
            assert!((&mut waiting_fresh).now_or_never().is_none());
            drop(due_permit);
            running = waiting_fresh.now_or_never().expect("the fresh lane's turn");
        }
    }

    #[test]
    fn lanes_that_come_later_get_their_share_and_none_starves() {
        let permits = Permits::new(1);
        let mut lanes = permits.lanes(2);
        let running = lanes[0].take_free(1);
        lanes.extend(permits.lanes(2));
        let mut waiting: Vec<_> = lanes.iter_mut().map(|lane| Box::pin(lane.acquire())).enumerate().collect();
        assert!(waiting.iter_mut().all(|(_, acquire)| acquire.now_or_never().is_none()));
        drop(running);
        // Each one that is served gives its permit back at once; the one that had it before all others is the
        // last.
        let mut served = Vec::new();
        while !waiting.is_empty() {
            let next = waiting.iter_mut().position(|(_, acquire)| acquire.now_or_never().is_some()).unwrap();
            served.push(waiting.remove(next).0);
        }
        assert_eq!(served, [1, 2, 3, 0]);
    }

    #[test]
    fn a_lane_that_ended_is_owed_nothing_and_leaves_its_place_to_the_next() {
        let (fresh, due) = two(4);
        due.set_hungry(true);
        assert_eq!(fresh.take_free(9).len(), 2);
        drop(due);
        let held = fresh.take_free(9);
        assert_eq!(held.len(), 4);
        // One whose calls still run keeps its place until they have ended.
        let permits = fresh.permits.clone();
        drop(fresh);
        let next = permits.lanes(2);
        assert_eq!(next.iter().map(|lane| lane.index).collect::<Vec<_>>(), [1, 2]);
        drop(held);
        assert_eq!((permits.lanes(1)[0].index, next[0].take_free(9).len()), (0, 4));
    }

    #[test]
    fn a_permit_granted_to_a_future_that_is_gone_is_not_lost() {
        let (mut fresh, due) = two(1);
        let held = due.take_free(1);
        let mut waiting = Box::pin(fresh.acquire());
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        drop(held);
        assert_eq!(due.take_free(1).len(), 1);
        let mut waiting = Box::pin(fresh.acquire());
        assert!((&mut waiting).now_or_never().is_some());
    }
}
