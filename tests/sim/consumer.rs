//! A pull consumer of the broker in memory: what it delivered, what it waits for, and what it forgot.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use queue_worker::{
    broker::{
        levels::{self, room},
        seam::Ack,
    },
    message::names::{Names, covers},
};
use tokio::{sync::Notify, time::Instant};

use crate::stored::Stored;

/// How many levels have a consumer: no plan waits longer than what fits into them.
pub const LEVELS: u32 = 5;

/// What a consumer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Fresh,
    Due,
    Level,
}

#[derive(Debug, Clone)]
pub struct Pending {
    pub until: Instant,
    pub holder: usize,
    /// Whether the delivery arrived.
    pub heard: bool,
    /// Whether its acknowledgement is on its way.
    settling: bool,
    /// Whether this one did, or one before it.
    ever_heard: bool,
    since: Instant,
}

/// A message on its way to a worker.
#[derive(Debug)]
pub struct Taken {
    pub message: Stored,
    pub sequence: u64,
    pub count: u64,
    pub waiting: u64,
    /// Whether it reached a worker before, or its acknowledgement the server.
    pub again: bool,
}

#[derive(Debug)]
pub struct Consumer {
    pub role: Role,
    /// Which of the queues it belongs to.
    pub queue: usize,
    pub stream: String,
    pub ack_wait: Duration,
    /// Wakes those who wait for it, in the order of waiting; a watch channel would throw dice of its own.
    pub changed: Arc<Notify>,
    filter: String,
    /// How many deliveries may be unacknowledged.
    room: u64,
    cursor: u64,
    pub pending: BTreeMap<u64, Pending>,
    /// When it delivered last, by the broker's clock: the server keeps it in its memory only.
    pub active: Option<SystemTime>,
    again: VecDeque<u64>,
    counts: BTreeMap<u64, u64>,
    /// What came back because its acknowledgement was forgotten.
    forgotten: BTreeSet<u64>,
}

impl Consumer {
    /// All consumers of a queue.
    pub fn of(queue: usize, names: &Names, ack_wait: Duration, level_room: u64) -> Vec<Self> {
        let consumer = |role, stream: &String, filter, ack_wait| Self {
            role,
            queue,
            stream: stream.clone(),
            ack_wait,
            changed: Arc::default(),
            filter,
            room: if role == Role::Level { level_room } else { u64::MAX },
            cursor: 0,
            pending: BTreeMap::new(),
            active: None,
            again: VecDeque::new(),
            counts: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        };
        let mut all = vec![
            consumer(Role::Fresh, &names.stream, names.queue.clone(), ack_wait),
            consumer(Role::Due, &names.retries, names.due_subjects(), ack_wait),
            // Of all functions together: messages name one only.
            consumer(Role::Due, &names.retries, format!("{}-retries.held.>", names.queue), ack_wait),
        ];
        all.extend(
            (0..LEVELS)
                .map(|k| consumer(Role::Level, &names.retries, names.level_subjects(k), levels::ACK_WAIT)),
        );
        all
    }

    /// Puts what ran out in line again.
    pub fn advance(&mut self, now: Instant) {
        for (sequence, pending) in &self.pending {
            if pending.until <= now && !self.again.contains(sequence) {
                self.again.push_back(*sequence);
            }
        }
    }

    /// Tells those who wait for it to look again, if what was stored concerns it.
    pub fn hear_of(&self, stream: &str, stored: &Stored) {
        let concerned =
            covers(&self.filter, &stored.record.subject) || self.role == Role::Due && stored.fires.is_some();
        if self.stream == stream && concerned {
            self.changed.notify_waiters();
        }
    }

    /// Gives a level that fills more room, as a worker does that looks at it.
    pub fn make_room(&mut self, messages: &BTreeMap<u64, Stored>) {
        let held =
            messages.values().filter(|message| covers(&self.filter, &message.record.subject)).count() as u64;
        if let Some(room) = room::wanted(Some(self.room), held) {
            self.room = room;
            self.changed.notify_waiters();
        }
    }

    /// When the next delivery runs out.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        self.pending.values().map(|pending| pending.until).filter(|until| *until > now).min()
    }

    /// Delivers the next of `messages`; what is not acknowledged is delivered again `late` after the ack
    /// wait.
    pub fn take(
        &mut self,
        messages: &BTreeMap<u64, Stored>,
        holder: usize,
        heard: bool,
        late: Duration,
        now: Instant,
    ) -> Option<Taken> {
        self.advance(now);
        let again =
            std::iter::from_fn(|| self.again.pop_front()).find(|sequence| messages.contains_key(sequence));
        let mut fresh = messages
            .range(self.cursor + 1..)
            .filter(|(_, message)| covers(&self.filter, &message.record.subject));
        let full = self.pending.len() as u64 >= self.room;
        let sequence = again.or_else(|| fresh.next().filter(|_| !full).map(|(sequence, _)| *sequence))?;
        let waiting = fresh.count() as u64;
        if again.is_none() {
            self.cursor = sequence;
        }
        let before = self.pending.get(&sequence).is_some_and(|before| before.ever_heard);
        let pending = Pending {
            until: now + self.ack_wait + late,
            holder,
            heard,
            settling: false,
            ever_heard: heard || before,
            since: now,
        };
        self.pending.insert(sequence, pending);
        let count = self.counts.entry(sequence).or_insert(0);
        *count += 1;
        let again = before || self.forgotten.remove(&sequence);
        Some(Taken { message: messages[&sequence].clone(), sequence, count: *count, waiting, again })
    }

    /// Notes that `holder` has sent the acknowledgement.
    pub fn settles(&mut self, sequence: u64, holder: usize) {
        if let Some(pending) = self.pending.get_mut(&sequence).filter(|pending| pending.holder == holder) {
            pending.settling = true;
        }
    }

    /// The deliveries that `holder` is not done with.
    pub fn kept(&self, holder: usize) -> impl Iterator<Item = u64> {
        self.held(holder).filter(|sequence| self.pending.get(sequence).is_some_and(|kept| !kept.settling))
    }

    /// Forgets a settled message; returns how often it was delivered.
    pub fn settle(&mut self, sequence: u64) -> u64 {
        // The place that it leaves may be the one that another waits for.
        if self.pending.remove(&sequence).is_some() && self.pending.len() as u64 + 1 == self.room {
            self.changed.notify_waiters();
        }
        self.again.retain(|other| *other != sequence);
        self.counts.remove(&sequence).unwrap_or(0)
    }

    /// Starts the ack clock again, whoever asks for it.
    pub fn prolong(&mut self, sequence: u64, ack: Ack, now: Instant) {
        let wait = if let Ack::Later(wait) = ack { wait } else { self.ack_wait };
        if let Some(pending) = self.pending.get_mut(&sequence).filter(|pending| pending.until > now) {
            pending.until = now + wait;
            // Handed back it is nobody's.
            pending.heard &= !matches!(ack, Ack::Later(_));
        }
        if let Ack::Later(_) = ack {
            self.changed.notify_waiters();
        }
    }

    /// Has a message again whose acknowledgement is forgotten, after `count` deliveries or, as far as it
    /// knows, none.
    pub fn comes_back(&mut self, sequence: u64, count: Option<u64>) {
        self.again.push_back(sequence);
        self.forgotten.insert(sequence);
        if let Some(count) = count {
            self.counts.insert(sequence, count);
        }
    }

    /// Forgets the deliveries since `moment`: those messages are delivered to somebody else, as if for the
    /// first time.
    pub fn forget_deliveries(&mut self, moment: Instant) -> Vec<u64> {
        let young = self
            .pending
            .iter()
            .filter(|(sequence, pending)| pending.since >= moment && self.counts[sequence] == 1);
        let young: Vec<u64> = young.map(|(sequence, _)| *sequence).collect();
        for sequence in &young {
            self.pending.remove(sequence);
            self.counts.remove(sequence);
            self.again.retain(|other| other != sequence);
            self.again.push_back(*sequence);
        }
        young
    }

    /// The deliveries that arrived at `holder` and are not acknowledged.
    pub fn held(&self, holder: usize) -> impl Iterator<Item = u64> {
        let held = self.pending.iter().filter(move |(_, pending)| pending.holder == holder && pending.heard);
        held.map(|(sequence, _)| *sequence)
    }
}
