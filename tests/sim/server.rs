//! JetStream in memory, as far as a queue can tell: streams, ids within a window, schedules, and two pull consumers with
//! acknowledgements. Time is an argument, and nothing here waits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use queue_worker::{
    broker::{Ack, Record},
    names::{self, Id, Names},
};
use tokio::time::Instant;

/// How long an id is remembered.
const WINDOW: Duration = Duration::from_secs(600);
/// How much of its acknowledgements a killed server forgets.
const FORGOTTEN: Duration = Duration::from_millis(100);

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    pub record: Record,
    pub stored: SystemTime,
    fires: Option<Instant>,
}

impl Stored {
    fn header(&self, name: &str) -> Option<&str> {
        self.record.headers.get(name).map(|value| value.as_str())
    }

    /// The identity of the invocation, and its hop.
    pub fn identity(&self, sequence: u64) -> (String, u64) {
        let known = self.header(names::ORIGINAL_ID).and_then(|id| id.rsplit_once(':')).map(|(_, id)| id.to_owned());
        let hop = self.header(names::HOP).and_then(|hop| hop.parse().ok()).unwrap_or(0);
        (known.unwrap_or_else(|| Id::new(sequence, self.stored).to_string()), hop)
    }

    /// Whether it is a callback, and no call.
    pub fn is_callback(&self) -> bool {
        self.header(names::KIND) == Some("callback")
    }

    /// The call that it belongs to, where its headers say so.
    pub fn call_id(&self) -> Option<&str> {
        self.header(names::CALL_ID)
    }

    pub fn attempts(&self) -> u32 {
        self.header(names::ATTEMPTS).and_then(|attempts| attempts.parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Stream {
    last: u64,
    messages: BTreeMap<u64, Stored>,
    /// When each id was taken, and as what.
    ids: BTreeMap<String, (Instant, u64)>,
}

#[derive(Debug, Clone)]
struct Pending {
    until: Instant,
    holder: usize,
    /// Whether the delivery arrived.
    heard: bool,
}

#[derive(Debug)]
struct Consumer {
    stream: String,
    filter: String,
    cursor: u64,
    pending: BTreeMap<u64, Pending>,
    again: VecDeque<u64>,
    counts: BTreeMap<u64, u64>,
    /// What came back because its acknowledgement was forgotten.
    forgotten: BTreeSet<u64>,
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
pub struct Server {
    streams: BTreeMap<String, Stream>,
    consumers: [Consumer; 2],
    origin: (Instant, SystemTime),
    ack_wait: Duration,
    acked: Vec<(Instant, usize, u64, Stored, u64)>,
}

/// The consumers: of fresh and of due messages.
pub const CONSUMERS: [usize; 2] = [0, 1];

impl Server {
    pub fn new(names: &Names, ack_wait: Duration) -> Self {
        let consumer = |stream: &str, filter: String| Consumer {
            stream: stream.to_owned(),
            filter,
            cursor: 0,
            pending: BTreeMap::new(),
            again: VecDeque::new(),
            counts: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        };
        Self {
            streams: [&names.stream, &names.retries, &names.dead].map(|name| (name.clone(), Stream::default())).into(),
            consumers: [consumer(&names.stream, names.queue.clone()), consumer(&names.retries, names.due_subjects())],
            origin: (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            ack_wait,
            acked: Vec::new(),
        }
    }

    pub fn wall(&self, now: Instant) -> SystemTime {
        self.origin.1 + (now - self.origin.0)
    }

    pub fn stream_of(&self, consumer: usize) -> &str {
        &self.consumers[consumer].stream
    }

    /// Stores a record unless its id was taken; returns what was stored. A schedule fires up to `late` after its time.
    pub fn publish(&mut self, record: &Record, late: Duration, now: Instant) -> Option<(u64, Stored)> {
        let wall = self.wall(now);
        let schedule = record.headers.get("Nats-Schedule").and_then(|at| humantime::parse_rfc3339(at.as_str().strip_prefix("@at ")?).ok());
        let fires = schedule.map(|at| now + at.duration_since(wall).unwrap_or_default() + late);
        let stream = self.streams.get_mut(&record.stream).unwrap();
        if stream.ids.get(&record.id).is_some_and(|(taken, _)| now < *taken + WINDOW) {
            return None;
        }
        if fires.is_some() {
            stream.messages.retain(|_, other| other.record.subject != record.subject);
        }
        stream.last += 1;
        let message = Stored { record: record.clone(), stored: wall, fires };
        stream.ids.insert(record.id.clone(), (now, stream.last));
        stream.messages.insert(stream.last, message.clone());
        Some((stream.last, message))
    }

    /// Fires what is due, and puts what ran out in line again.
    pub fn advance(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            let due: Vec<u64> =
                stream.messages.iter().filter(|(_, message)| message.fires.is_some_and(|at| at <= now)).map(|(n, _)| *n).collect();
            for sequence in due {
                let mut message = stream.messages.remove(&sequence).unwrap();
                let target = message.header("Nats-Schedule-Target").unwrap().to_owned();
                let headers = message.record.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-"));
                message.record.headers =
                    headers.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone()))).collect::<HeaderMap>();
                message.record.subject = target;
                message.fires = None;
                message.stored = self.origin.1 + (now - self.origin.0);
                stream.last += 1;
                stream.messages.insert(stream.last, message);
            }
        }
        for consumer in &mut self.consumers {
            let Consumer { pending, again, .. } = consumer;
            let out = pending
                .iter()
                .filter(|(sequence, pending)| pending.until <= now && !again.contains(sequence))
                .map(|(sequence, _)| *sequence);
            let out: Vec<u64> = out.collect();
            again.extend(out);
        }
    }

    /// When something happens by itself next.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let fires = self.streams.values().flat_map(|stream| stream.messages.values()).filter_map(|message| message.fires);
        let ends = self.consumers.iter().flat_map(|consumer| consumer.pending.values()).map(|pending| pending.until);
        fires.chain(ends.filter(|until| *until > now)).min()
    }

    /// Delivers the next message; what is not acknowledged is delivered again `late` after the ack wait.
    pub fn take(&mut self, consumer: usize, holder: usize, heard: bool, late: Duration, now: Instant) -> Option<Taken> {
        self.advance(now);
        let consumer = &mut self.consumers[consumer];
        let messages = &self.streams[&consumer.stream].messages;
        let again = std::iter::from_fn(|| consumer.again.pop_front()).find(|sequence| messages.contains_key(sequence));
        let mut fresh = messages.range(consumer.cursor + 1..).filter(|(_, message)| covers(&consumer.filter, &message.record.subject));
        let sequence = again.or_else(|| fresh.next().map(|(sequence, _)| *sequence))?;
        if again.is_none() {
            consumer.cursor = sequence;
        }
        let before = consumer.pending.insert(sequence, Pending { until: now + self.ack_wait + late, holder, heard });
        let count = consumer.counts.entry(sequence).or_insert(0);
        *count += 1;
        let again = before.is_some_and(|before| before.heard) || consumer.forgotten.remove(&sequence);
        Some(Taken { message: messages[&sequence].clone(), sequence, count: *count, waiting: fresh.count() as u64, again })
    }

    /// Acknowledges by consumer and sequence, whoever holds the message. Returns what is settled by it.
    pub fn acknowledge(&mut self, consumer: usize, sequence: u64, ack: Ack, now: Instant) -> Option<Stored> {
        let at = consumer;
        let consumer = &mut self.consumers[consumer];
        match ack {
            Ack::Done => {
                consumer.pending.remove(&sequence);
                consumer.again.retain(|other| *other != sequence);
                let count = consumer.counts.remove(&sequence).unwrap_or(0);
                let message = self.streams.get_mut(&consumer.stream).unwrap().messages.remove(&sequence)?;
                self.acked.push((now, at, sequence, message.clone(), count));
                return Some(message);
            }
            Ack::InProgress | Ack::Later(_) => {
                let wait = if let Ack::Later(wait) = ack { wait } else { self.ack_wait };
                if let Some(pending) = consumer.pending.get_mut(&sequence).filter(|pending| pending.until > now) {
                    pending.until = now + wait;
                }
            }
        }
        None
    }

    pub fn last(&self, stream: &str, filter: &str) -> Option<String> {
        let mut subjects = self.streams[stream].messages.values().rev().map(|message| &message.record.subject);
        subjects.find(|subject| covers(filter, subject)).cloned()
    }

    pub fn taken_as(&self, stream: &str, id: &str, now: Instant) -> Option<u64> {
        self.streams[stream].ids.get(id).filter(|(taken, _)| now < *taken + WINDOW).map(|(_, sequence)| *sequence)
    }

    pub fn headers(&self, stream: &str, sequence: u64) -> Option<HeaderMap> {
        Some(self.streams[stream].messages.get(&sequence)?.record.headers.clone())
    }

    /// What a SIGKILL takes: the last acknowledgements (some messages come back as never delivered, which `as_new` says),
    /// and the ids of what is stored no more.
    pub fn killed(&mut self, mut as_new: impl FnMut() -> bool, now: Instant) {
        for (at, consumer, sequence, message, count) in std::mem::take(&mut self.acked) {
            if at + FORGOTTEN < now {
                continue;
            }
            let consumer = &mut self.consumers[consumer];
            self.streams.get_mut(&consumer.stream).unwrap().messages.insert(sequence, message);
            consumer.again.push_back(sequence);
            consumer.forgotten.insert(sequence);
            if !as_new() {
                consumer.counts.insert(sequence, count);
            }
        }
        for stream in self.streams.values_mut() {
            let messages = &stream.messages;
            stream.ids.retain(|_, (_, sequence)| messages.contains_key(sequence));
        }
    }

    /// Whether nothing is queued or parked.
    pub fn is_empty(&self) -> bool {
        self.consumers.iter().all(|consumer| self.streams[&consumer.stream].messages.is_empty())
    }

    /// How many deliveries that arrived at `holder` are not acknowledged.
    pub fn held_by(&self, holder: usize) -> usize {
        self.consumers
            .iter()
            .flat_map(|consumer| consumer.pending.values())
            .filter(|pending| pending.holder == holder && pending.heard)
            .count()
    }
}

fn covers(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}
