//! JetStream in memory, as far as a queue can tell: streams, ids within a window, schedules, and pull
//! consumers with acknowledgements. Time is an argument, and nothing here waits.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, SystemTime},
};

use async_nats::HeaderMap;
use queue_worker::{
    broker::{
        consumer::Horizon,
        seam::{Ack, BrokerError},
    },
    message::{
        names::{Names, covers},
        record::Record,
    },
};
use tokio::time::Instant;

use crate::{
    consumer::{Consumer, LEVELS, Role, Taken},
    stored::Stored,
};

/// How long an id is remembered.
pub const WINDOW: Duration = Duration::from_secs(600);
/// How much of its last moments a killed server forgets.
const FORGOTTEN: Duration = Duration::from_millis(100);
/// What frames a message's headers, and each of them, in bytes.
const FRAME: (usize, usize) = ("NATS/1.0\r\n\r\n".len(), ": \r\n".len());

#[derive(Debug, Default)]
struct Stream {
    last: u64,
    /// When that one was stored.
    newest: Option<SystemTime>,
    messages: BTreeMap<u64, Stored>,
    /// When each id was taken, and as what.
    ids: BTreeMap<String, (Instant, u64)>,
}

impl Stream {
    fn push(&mut self, message: Stored) -> u64 {
        self.last += 1;
        self.newest = Some(message.stored);
        self.messages.insert(self.last, message);
        self.last
    }
}

/// An acknowledgement that a killed server may forget.
#[derive(Debug)]
struct Acknowledged {
    at: Instant,
    consumer: usize,
    sequence: u64,
    message: Stored,
    count: u64,
}

#[derive(Debug)]
pub struct Server {
    streams: BTreeMap<String, Stream>,
    pub consumers: Vec<Consumer>,
    /// The time of the broker's wall clock at a moment.
    clock: (Instant, SystemTime),
    acknowledged: Vec<Acknowledged>,
    /// How often it was started.
    pub lives: u64,
    /// When the streams were made.
    made: SystemTime,
    /// Whether it knows schedules.
    pub schedules: bool,
    /// The most bytes that headers and payload of one message may have.
    pub max_payload: usize,
}

impl Server {
    pub fn new(queues: &[Names], ack_wait: Duration, level_room: u64, max_payload: usize) -> Self {
        let streams = queues.iter().flat_map(|names| [&names.stream, &names.retries, &names.dead]);
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self {
            streams: streams.map(|name| (name.clone(), Stream::default())).collect(),
            consumers: (0..)
                .zip(queues)
                .flat_map(|(queue, names)| Consumer::of(queue, names, ack_wait, level_room))
                .collect(),
            clock: (Instant::now(), made),
            acknowledged: Vec::new(),
            lives: 1,
            made,
            schedules: true,
            max_payload,
        }
    }

    /// The numbers of a queue's consumers: of the fresh, the due and the held messages, and of the levels.
    pub fn consumers_of(&self, queue: usize) -> Range<usize> {
        let each = LEVELS as usize + 3;
        queue * each..(queue + 1) * each
    }

    pub fn wall(&self, now: Instant) -> SystemTime {
        self.clock.1 + (now - self.clock.0)
    }

    /// Somebody sets the broker's clock.
    pub fn step_clock(&mut self, forward: bool, by: Duration, now: Instant) {
        let wall = self.wall(now);
        self.clock = (now, if forward { wall + by } else { wall - by });
    }

    /// Stores a record unless its id was taken; returns what was stored. A schedule fires up to `late` after
    /// its time, or never.
    pub fn publish(
        &mut self,
        record: &Record,
        late: Option<Duration>,
        now: Instant,
    ) -> Result<Option<(u64, Stored)>, BrokerError> {
        self.advance(now);
        if size(record) > self.max_payload {
            return Err(BrokerError::TooLarge);
        }
        let wall = self.wall(now);
        let schedule = record
            .headers
            .get("Nats-Schedule")
            .filter(|_| self.schedules && record.stream.ends_with("-retries"));
        let schedule =
            schedule.and_then(|at| humantime::parse_rfc3339(at.as_str().strip_prefix("@at ")?).ok());
        let stream = self.streams.get_mut(&record.stream).unwrap();
        if stream.ids.get(&record.id).is_some_and(|(taken, _)| now < *taken + WINDOW) {
            return Ok(None);
        }
        if schedule.is_some() {
            stream.messages.retain(|_, other| other.record.subject != record.subject);
        }
        let fires = schedule.and_then(|at| Some(at.max(wall) + late?));
        let message = Stored { record: record.clone(), stored: wall, fires };
        let sequence = stream.push(message.clone());
        if !record.id.is_empty() {
            stream.ids.insert(record.id.clone(), (now, sequence));
        }
        self.consumers.iter().for_each(|consumer| consumer.hear_of(&record.stream, &message));
        Ok(Some((sequence, message)))
    }

    /// The same, unless a message lies on the record's subject.
    pub fn place(&mut self, record: &Record, now: Instant) -> Result<Option<(u64, Stored)>, BrokerError> {
        let lies = self.streams[&record.stream]
            .messages
            .values()
            .any(|other| other.record.subject == record.subject);
        if lies { Ok(None) } else { self.publish(record, None, now) }
    }

    /// Stores a record in the place of the message `sequence`, if that is the last one on the subject
    /// `holder`.
    pub fn fire(
        &mut self,
        record: &Record,
        holder: &str,
        sequence: u64,
        now: Instant,
    ) -> Result<Option<(u64, Stored)>, BrokerError> {
        self.advance(now);
        let mut messages = self.streams[&record.stream].messages.iter().rev();
        let last = messages.find(|(_, other)| other.record.subject == holder);
        if last.is_none_or(|(last, _)| *last != sequence) {
            return Ok(None);
        }
        let stored = self.publish(record, None, now)?;
        self.streams
            .get_mut(&record.stream)
            .unwrap()
            .messages
            .retain(|_, other| other.record.subject != holder);
        Ok(stored)
    }

    /// The first message from `sequence` on whose subject `filter` covers.
    pub fn next(&self, stream: &str, filter: &str, from: u64) -> Option<(u64, Stored)> {
        let mut messages = self.streams[stream].messages.range(from..);
        messages
            .find(|(_, message)| covers(filter, &message.record.subject))
            .map(|(sequence, message)| (*sequence, message.clone()))
    }

    pub fn delete(&mut self, stream: &str, sequence: u64) -> Option<Stored> {
        self.streams.get_mut(stream).unwrap().messages.remove(&sequence)
    }

    /// How many messages lie in a stream.
    pub fn messages(&self, stream: &str) -> u64 {
        self.streams[stream].messages.len() as u64
    }

    /// An older version takes its place, which fires nothing, or a newer one, which has nothing to fire but
    /// what comes.
    pub fn becomes(&mut self, schedules: bool) {
        self.schedules = schedules;
        self.starts();
        self.streams
            .values_mut()
            .flat_map(|stream| stream.messages.values_mut())
            .for_each(|message| message.fires = None);
    }

    /// Fires what is due.
    pub fn advance(&mut self, now: Instant) {
        let wall = self.wall(now);
        for stream in self.streams.values_mut() {
            let due = |message: &Stored| message.fires.is_some_and(|at| at <= wall);
            let due: Vec<u64> = stream
                .messages
                .iter()
                .filter(|(_, message)| due(message))
                .map(|(sequence, _)| *sequence)
                .collect();
            for sequence in due {
                let holder = stream.messages.remove(&sequence).unwrap();
                stream.push(holder.fired(wall));
            }
        }
    }

    /// When something happens by itself next that a consumer has to look at.
    pub fn next_event(&self, consumer: usize, now: Instant) -> Option<Instant> {
        let consumer = &self.consumers[consumer];
        let messages = self.streams[&consumer.stream].messages.values();
        let fires = messages.filter_map(|message| message.fires).min().filter(|_| consumer.role == Role::Due);
        let fires = fires.map(|at| now + at.duration_since(self.wall(now)).unwrap_or_default());
        consumer.next_event(now).into_iter().chain(fires).min()
    }

    pub fn take(
        &mut self,
        consumer: usize,
        holder: usize,
        heard: bool,
        late: Duration,
        now: Instant,
    ) -> Option<Taken> {
        self.advance(now);
        let wall = self.wall(now);
        let consumer = &mut self.consumers[consumer];
        let taken = consumer.take(&self.streams[&consumer.stream].messages, holder, heard, late, now)?;
        consumer.active = Some(wall);
        Some(taken)
    }

    /// What a look proves before a consumer of the queue with this stream is asked.
    pub fn horizon(&self, queue: &str, consumer: usize, now: Instant) -> Horizon {
        let Stream { last, newest, .. } = &self.streams[queue];
        let stored = newest.unwrap_or(self.made);
        let running = self.consumers[consumer].active.filter(|_| stored <= self.wall(now));
        Horizon { sequence: *last, stored, running }
    }

    /// When the last message was stored in a stream.
    pub fn newest(&self, stream: &str) -> Option<SystemTime> {
        self.streams[stream].newest
    }

    /// It starts again: what it kept in its memory only is gone.
    fn starts(&mut self) {
        self.lives += 1;
        self.consumers.iter_mut().for_each(|consumer| consumer.active = None);
    }

    /// Looks after the room of the levels among these consumers.
    pub fn make_room(&mut self, levels: Range<usize>) {
        for consumer in &mut self.consumers[levels] {
            consumer.make_room(&self.streams[&consumer.stream].messages);
        }
    }

    /// Acknowledges by consumer and sequence, whoever holds the message. Returns what is settled by it.
    pub fn acknowledge(&mut self, consumer: usize, sequence: u64, ack: Ack, now: Instant) -> Option<Stored> {
        let number = consumer;
        let consumer = &mut self.consumers[consumer];
        if ack != Ack::Done {
            consumer.prolong(sequence, ack, now);
            return None;
        }
        let count = consumer.settle(sequence);
        let message = self.streams.get_mut(&consumer.stream).unwrap().messages.remove(&sequence)?;
        self.acknowledged.push(Acknowledged {
            at: now,
            consumer: number,
            sequence,
            message: message.clone(),
            count,
        });
        Some(message)
    }

    pub fn last(&self, stream: &str, filter: &str) -> Option<String> {
        let mut subjects =
            self.streams[stream].messages.values().rev().map(|message| &message.record.subject);
        subjects.find(|subject| covers(filter, subject)).cloned()
    }

    pub fn taken_as(&self, stream: &str, id: &str, now: Instant) -> Option<u64> {
        self.streams[stream]
            .ids
            .get(id)
            .filter(|(taken, _)| now < *taken + WINDOW)
            .map(|(_, sequence)| *sequence)
    }

    pub fn headers(&self, stream: &str, sequence: u64) -> Option<HeaderMap> {
        Some(self.streams[stream].messages.get(&sequence)?.record.headers.clone())
    }

    /// What a SIGKILL takes: the last acknowledgements (some messages come back as never delivered, which
    /// `as_new` says), the last deliveries, and the ids of what is stored no more. Returns what is delivered
    /// a second time for it.
    pub fn killed(&mut self, mut as_new: impl FnMut() -> bool, now: Instant) -> Vec<Stored> {
        let moment = now - FORGOTTEN;
        self.starts();
        for Acknowledged { at, consumer, sequence, message, count } in std::mem::take(&mut self.acknowledged)
        {
            if at < moment {
                continue;
            }
            let consumer = &mut self.consumers[consumer];
            self.streams.get_mut(&consumer.stream).unwrap().messages.insert(sequence, message);
            consumer.comes_back(sequence, (!as_new()).then_some(count));
        }
        let mut twice = Vec::new();
        for consumer in &mut self.consumers {
            let messages = &self.streams[&consumer.stream].messages;
            twice.extend(
                consumer
                    .forget_deliveries(moment)
                    .into_iter()
                    .filter_map(|sequence| messages.get(&sequence).cloned()),
            );
        }
        for stream in self.streams.values_mut() {
            let messages = &stream.messages;
            stream.ids.retain(|_, (_, sequence)| messages.contains_key(sequence));
        }
        twice
    }

    /// Whether nothing is queued or parked.
    pub fn is_empty(&self) -> bool {
        self.consumers.iter().all(|consumer| self.streams[&consumer.stream].messages.is_empty())
    }

    /// The same less the suspects: these are handed back without a permit, so that none waits for one.
    pub fn kept_by(&self, holder: usize) -> usize {
        let kept = |consumer: &&Consumer| {
            let messages = &self.streams[&consumer.stream].messages;
            let is_suspect = |sequence: &u64| messages.get(sequence).is_some_and(Stored::is_suspect);
            consumer.kept(holder).filter(|sequence| !is_suspect(sequence)).count()
        };
        self.consumers
            .iter()
            .filter(|consumer| consumer.role != Role::Level)
            .map(|consumer| kept(&consumer))
            .sum()
    }

    /// How many deliveries that arrived at `holder` are not acknowledged, those of the promoters aside.
    pub fn held_by(&self, holder: usize) -> usize {
        self.consumers
            .iter()
            .filter(|consumer| consumer.role != Role::Level)
            .map(|consumer| consumer.held(holder).count())
            .sum()
    }
}

/// The bytes of a message as the server counts them.
pub fn size(record: &Record) -> usize {
    let (frame, each) = FRAME;
    let headers = record
        .headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value)));
    let headers: usize = headers.map(|(name, value)| name.len() + value.as_str().len() + each).sum();
    let own =
        "Nats-Msg-Id".len() + record.id.len() + "Nats-Expected-Stream".len() + record.stream.len() + 2 * each;
    frame + headers + own + record.payload.len()
}
