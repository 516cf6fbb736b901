//! What a seed stands for: settings, messages with the answers that they will get, and the schedule of its
//! faults.

use std::{sync::Arc, time::Duration};

use queue_worker::{
    message::{form::Form, target::Target, timer},
    retry::backoff::Jitter,
};
use rand::{RngExt, rngs::SmallRng};

use crate::{failpoint::Failpoint, hostile::Headers};

pub type Dice = SmallRng;

/// What the brokers of most people take.
pub const USUAL_PAYLOAD: usize = 1 << 20;
/// Where a broker takes so much, what follows from an invocation that it took fits, too, compressed if need
/// be.
pub const ROOMY: usize = 8 << 10;
/// So little that what follows from a message does not always fit.
pub const TIGHT: usize = 2 << 10;
/// As long as names get: a label's length for the function, and one for the namespace.
pub const LONG_NAME: &str = concat!(
    "a-function-with-as-many-letters-as-there-can-be-in-a-label-of-dns",
    ".",
    "a-namespace-with-as-many-letters-as-there-can-be-in-a-label-dns"
);

/// What a function does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// A status with a `Retry-After` of so many seconds.
    PushedBack(u16, u64),
    TimedOut,
    Unreachable,
    /// The connection breaks off in the middle of the answer.
    Broken,
    /// The call kills the worker that makes it.
    Poison,
}

/// One call's answer and how long it takes. The last step of a script repeats.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub answer: Answer,
    pub takes: Duration,
}

/// An invocation: when it is queued and where, how its calls go, and how its callback does if it asks for
/// one.
#[derive(Debug, Clone)]
pub struct Message {
    pub at: Duration,
    pub queue: usize,
    /// Without a script it is no invocation at all.
    pub script: Vec<Step>,
    pub callback: Option<Vec<Step>>,
    pub headers: Headers,
    /// How many bytes less than the broker takes it has, where it is as large as that.
    pub room: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A worker is gone at once; another starts a while later.
    Crash { back_after: Duration },
    /// A worker is told to stop; another starts at once.
    Drain { grace: Duration },
    /// The broker is away; killed, it forgets its last moments, and the ids of what it no longer stores.
    Outage { lasts: Duration, killed: bool },
    /// The gateway dies in the middle of its answers, and is away.
    GatewayAway { lasts: Duration },
    /// All workers stand still, as after SIGSTOP, and go on.
    ErrorBackoff { lasts: Duration },
    /// Somebody sets the broker's clock.
    Clock { forward: bool, by: Duration },
    /// Somebody cancels the call of this message, and all workers hear of it.
    Cancel { message: usize },
    /// The broker is exchanged for an older one, which fires no schedules, and then for a newer one.
    Downgrade { lasts: Duration },
    /// An operator pauses the function on all queues.
    Pause,
    /// The operator resumes it.
    Resume,
}

/// How often one request to the broker goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    /// It is not done, and not answered.
    pub lost: u32,
    /// It is done, and the answer is an error.
    pub unanswered: u32,
    /// It is done when nobody waits for it any more.
    pub late: u32,
    /// A delivery does not arrive.
    pub undelivered: u32,
    /// What ran out is delivered again so much later at most.
    pub late_redelivery: Duration,
    /// A header of what is parked is damaged.
    pub damaged: u32,
}

/// Which timers the workers use: all the same, or in turn, as while one is exchanged for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timers {
    Schedules,
    Levels,
    Mixed,
}

/// The form of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    OpenFaas,
    Http,
    CloudEvents,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub input: Input,
    pub workers: usize,
    pub queues: usize,
    pub timers: Timers,
    pub max_inflight: usize,
    /// What is called within so long may be asked for ahead.
    pub ahead: Duration,
    pub ack_wait: Duration,
    pub max_attempts: u32,
    pub immediate_retries: u32,
    pub initial_wait: Duration,
    pub max_wait: Duration,
    pub jitter: Jitter,
    /// Whether functions and receivers say by a date when to come back.
    pub dates: bool,
    pub max_retry_after: Duration,
    pub max_message_age: Option<Duration>,
    pub confirm_acks: bool,
    pub callback_attempts: u32,
    /// How many messages a level's consumer may hold until it gets more room.
    pub level_room: u64,
    /// How many messages the promoters take a level to hold.
    pub level_held: u64,
    pub dead_letters: bool,
    /// The function that all messages name.
    pub function: &'static str,
    /// What the broker takes, until the operator raises it after the faults.
    pub max_payload: usize,
    /// How many schedules in a thousand never fire.
    pub unfired: u32,
    pub messages: Vec<Message>,
    pub events: Vec<(Duration, Event)>,
    pub fault_rates: FaultRates,
    /// Faults at certain steps of a worker.
    pub failpoints: Vec<Failpoint>,
}

impl FaultRates {
    pub fn is_none(&self) -> bool {
        self.lost + self.unanswered + self.late + self.undelivered + self.damaged == 0
    }
}

impl Timers {
    /// The timer of the worker with this number.
    pub fn of(self, worker: usize) -> timer::Timer {
        match self {
            Self::Levels => timer::Timer::Levels,
            Self::Mixed if worker % 2 == 1 => timer::Timer::Levels,
            Self::Schedules | Self::Mixed => timer::Timer::Schedules,
        }
    }
}

impl Plan {
    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        let poison = self
            .messages
            .iter()
            .flat_map(|message| &message.script)
            .any(|step| step.answer == Answer::Poison);
        self.events.is_empty()
            && self.fault_rates.is_none()
            && self.failpoints.is_empty()
            && !poison
            && self.max_payload >= ROOMY
    }

    /// Whether an attempt (from 0) with this answer is the last.
    pub fn ends_with(&self, answer: Answer, retry: u32) -> bool {
        matches!(answer, Answer::Status(200 | 400)) || retry + 1 >= self.max_attempts
    }

    /// The least wait that the contract (§4, §5) gives after the attempt `retry` (from 0); `None` where there
    /// is no other.
    pub fn wait_after(&self, answer: Answer, retry: u32) -> Option<Duration> {
        let computed = self.max_wait.min(self.initial_wait * 2_u32.pow(retry));
        let wait = match answer {
            // A date says whole seconds of the clock's.
            Answer::PushedBack(_, seconds) => self.heeded(seconds.saturating_sub(u64::from(self.dates))),
            // It may be one that is made in place, or one before that was.
            _ if self.immediate_retries > 0 => Duration::ZERO,
            _ => match self.jitter {
                Jitter::None => computed,
                Jitter::Full => Duration::ZERO,
                // Half of it, as exactly as floating point has it.
                Jitter::Equal => (computed / 2).saturating_sub(Duration::from_micros(1)),
            },
        };
        (!self.ends_with(answer, retry)).then_some(wait)
    }

    /// The wait after an answer that asks for so many seconds.
    pub fn heeded(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).min(self.max_retry_after).max(self.initial_wait)
    }

    /// How many calls a script makes where nothing goes wrong.
    pub fn calls(&self, script: &[Step]) -> usize {
        (0..).find(|&retry| self.ends_with(step(script, retry as usize).answer, retry)).unwrap() as usize + 1
    }

    /// How many POSTs the script of a callback makes where nothing goes wrong.
    pub fn posts(&self, script: &[Step]) -> usize {
        let ends = |n: &usize| matches!(step(script, *n).answer, Answer::Status(200 | 400));
        (0..self.callback_attempts as usize)
            .find(ends)
            .map_or(self.callback_attempts as usize, |last| last + 1)
    }

    /// The form of a queue's messages.
    pub fn form(&self, queue: &str) -> Form {
        let target = || Arc::new(Target::new(queue, queue, "http://target/".parse().unwrap()).unwrap());
        match self.input {
            Input::OpenFaas => Form::OpenFaas,
            Input::Http => Form::Http(target()),
            Input::CloudEvents => Form::CloudEvents(target()),
        }
    }

    /// Whether some worker parks retries in levels.
    pub fn uses_levels(&self) -> bool {
        self.timers != Timers::Schedules || self.is_downgraded()
    }

    /// Whether somebody pauses the function.
    pub fn pauses(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Pause))
    }

    /// Whether the broker knows no schedules for a while.
    pub fn is_downgraded(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Downgrade { .. }))
    }

    /// How many deliveries a worker may hold: a permit's each, and one for each lane.
    pub fn most_held(&self) -> usize {
        self.max_inflight + if self.pauses() { 3 } else { 2 } * self.queues
    }

    /// How many more may lie unread there: those that it asked for ahead.
    pub fn most_ahead(&self) -> usize {
        if self.max_inflight < 8 { 0 } else { self.max_inflight }
    }
}

/// The step of the `n`th call or POST, from 0.
pub fn step(script: &[Step], n: usize) -> Step {
    script[n.min(script.len() - 1)]
}

pub fn one_of<T: Copy>(dice: &mut Dice, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}

/// Up to `most`, in whole milliseconds: tokio's clock knows no shorter time.
pub fn any(dice: &mut Dice, most: Duration) -> Duration {
    Duration::from_millis(dice.random_range(0..=most.as_millis() as u64))
}
