//! Permits to start a call. The permits of a process are shared by lanes (the consumers it pulls from),
//! so that neither fresh nor due work starves the other: while several lanes have work, none holds more than
//! its share, and a freed permit goes to the waiting lane that holds the fewest, the longest-unserved first.
//!
//! The messages of the calls that run may take so many bytes in all. A permit that has no message yet counts
//! as the largest that may come, so that what is asked for has room when it arrives.

mod foresight;
mod seat;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

pub use seat::Seat;

/// Such a part of the permits is many.
const PARTS: usize = 8;

/// The permits of one process.
#[derive(Debug, Clone)]
pub struct Permits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: usize,
    /// The bytes that all messages may have together.
    room: usize,
    /// The bytes of the largest message.
    largest: usize,
    /// The bytes of the messages that hold permits, and of those that may come.
    taken: usize,
    /// How many messages may come that there are no permits for yet.
    foreseen: usize,
    /// Fewer than none while permits that were withdrawn are still held.
    free: isize,
    /// The deliveries whose acknowledgements are on their way.
    departed: usize,
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
    waiter: Option<Waiter>,
    /// Deliveries that gave their permits back and want them again. They are served first: they came first.
    returning: VecDeque<oneshot::Sender<Permit>>,
}

/// Who waits for a permit, and for how many to be free.
#[derive(Debug)]
struct Waiter {
    least: usize,
    permit: oneshot::Sender<Permit>,
}

impl LaneState {
    fn waits(&self) -> bool {
        self.waiter.is_some() || !self.returning.is_empty()
    }

    /// So many have to be free before it is served.
    fn least(&self) -> usize {
        self.waiter.as_ref().filter(|_| self.returning.is_empty()).map_or(1, |waiter| waiter.least)
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
    /// How many messages may come to it that it has no permits for yet.
    foreseen: usize,
}

/// The right to run one call. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Permits,
    lane: usize,
    bytes: usize,
}

/// The room of a message that has no permit any more and is not gone yet. Given back when dropped.
#[derive(Debug)]
struct Departed {
    permits: Permits,
    bytes: usize,
}

impl Permits {
    /// `limit` permits for messages of any size, and no lane yet.
    pub fn new(limit: usize) -> Self {
        Self::within(limit, usize::MAX, 0)
    }

    /// `limit` permits for messages that have `room` bytes together and up to `largest` each. There is room
    /// for two of the largest at least: with less, small ones would wait for each other.
    pub fn within(limit: usize, room: usize, largest: usize) -> Self {
        let free = isize::try_from(limit).unwrap_or(isize::MAX);
        let room = room.max(largest.saturating_mul(2));
        let (taken, foreseen, departed, turn, next, lanes) = (0, 0, 0, 0, 0, Vec::new());
        let state = State { limit, room, largest, taken, foreseen, free, departed, turn, next, lanes };
        Self(Arc::new(Mutex::new(state)))
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
        Lane { permits: self.clone(), index: self.state().place(group), foreseen: 0 }
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
                lane.and_then(|lane| lane.returning.pop_front().or_else(|| Some(lane.waiter.take()?.permit)))
            else {
                return;
            };
            if let Err(unwanted) = waiter.send(state.grant(self, index)) {
                let bytes = unwanted.bytes;
                // Its drop would take the lock that is held here.
                std::mem::forget(unwanted);
                state.take_back(index, bytes);
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

    /// Whether the lane may have so many more while the others have work too.
    fn allows(&self, index: usize, more: usize) -> bool {
        let Some(lane) = self.lanes.get(index) else { return false };
        let wants = |other: &LaneState| other.hungry || other.waits() || other.group == lane.group;
        // Of each group one lane is counted: the first that wants any.
        let is_first = |(at, lane): &(usize, &LaneState)| {
            let mut before = self.lanes.iter().take(*at);
            wants(lane) && !before.any(|other| other.group == lane.group && wants(other))
        };
        let hungry = self.lanes.iter().enumerate().filter(is_first).count();
        let share = self.limit.div_ceil(hungry.max(1));
        self.free >= more.cast_signed() && self.has_room(more) && self.held(lane.group) + more <= share
    }

    /// How many permits the lanes of a group have.
    fn held(&self, group: Group) -> usize {
        self.lanes.iter().filter(|lane| lane.group == group).map(|lane| lane.held).sum()
    }

    fn has_room(&self, more: usize) -> bool {
        // A server may allow larger messages than it did when this began.
        let all = self.taken.saturating_add(self.largest.saturating_mul(more));
        self.taken == 0 && more == 1 || all <= self.room
    }

    fn next_served(&self) -> Option<usize> {
        let waiting = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(index, lane)| lane.waits() && self.allows(*index, lane.least()));
        waiting.min_by_key(|(_, lane)| (self.held(lane.group), lane.last_served)).map(|(index, _)| index)
    }

    fn grant(&mut self, permits: &Permits, index: usize) -> Permit {
        self.free -= 1;
        self.turn += 1;
        self.taken = self.taken.saturating_add(self.largest);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.held += 1;
            lane.last_served = self.turn;
        }
        Permit { permits: permits.clone(), lane: index, bytes: self.largest }
    }

    fn take_back(&mut self, index: usize, bytes: usize) {
        self.free += 1;
        self.taken = self.taken.saturating_sub(bytes);
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
        self.acquire_of(1).await
    }

    /// Waits until a part of the permits is free that is worth a request of its own, and for the first of
    /// them. Dropping the future gives up the place.
    pub async fn acquire_of_many(&mut self) -> Permit {
        let least = self.many();
        self.acquire_of(least).await
    }

    async fn acquire_of(&mut self, least: usize) -> Permit {
        loop {
            let granted = {
                let mut state = self.permits.state();
                let (permit, granted) = oneshot::channel();
                if let Some(lane) = state.lanes.get_mut(self.index) {
                    lane.waiter = Some(Waiter { least, permit });
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
        while taken.len() < most && state.allows(self.index, 1) {
            taken.push(state.grant(&self.permits, self.index));
        }
        taken
    }
}

impl Drop for Lane {
    /// A lane that nobody pulls for is owed no share.
    fn drop(&mut self) {
        self.foresee(0);
        let mut state = self.permits.state();
        if let Some(lane) = state.lanes.get_mut(self.index) {
            (lane.left, lane.hungry, lane.waiter) = (true, false, None);
        }
        self.permits.serve(&mut state);
    }
}

impl Permit {
    /// The message that came has so many bytes.
    pub fn carry(&mut self, bytes: usize) {
        let mut state = self.permits.state();
        state.taken = state.taken.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        self.permits.serve(&mut state);
    }

    /// Gives it back, but for the room of its message; unless as many have departed as there are permits.
    fn depart(mut self) -> Result<Departed, Self> {
        let mut state = self.permits.state();
        if state.departed >= state.limit {
            drop(state);
            return Err(self);
        }
        state.departed += 1;
        drop(state);
        // Its drop gives the rest back.
        Ok(Departed { permits: self.permits.clone(), bytes: std::mem::take(&mut self.bytes) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.permits.state();
        state.take_back(self.lane, self.bytes);
        self.permits.serve(&mut state);
    }
}

impl Drop for Departed {
    fn drop(&mut self) {
        let mut state = self.permits.state();
        state.departed -= 1;
        state.taken = state.taken.saturating_sub(self.bytes);
        self.permits.serve(&mut state);
    }
}

#[cfg(test)]
mod tests;
