//! What a seed stands for: settings, messages with the answers that they will get, and the weather.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What a function does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// A status with a `Retry-After` of so many seconds.
    PushedBack(u16, u64),
    TimedOut,
    Unreachable,
}

/// One call's answer and how long it takes. The last step of a script repeats.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub answer: Answer,
    pub takes: Duration,
}

#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// A worker is gone at once; another starts a while later.
    Crash { back_after: Duration },
    /// A worker is told to stop; another starts at once.
    Drain { grace: Duration },
    /// The broker is away; killed, it forgets its last acknowledgements, and the ids of what it no longer stores.
    Outage { lasts: Duration, killed: bool },
}

/// How often one request to the broker goes wrong, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
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
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub max_inflight: usize,
    pub ack_wait: Duration,
    pub max_attempts: u32,
    pub initial_wait: Duration,
    pub max_wait: Duration,
    pub max_retry_after: Duration,
    pub confirm_acks: bool,
    pub callback_attempts: u32,
    /// When each message is queued, how its calls go, and how its callback does if it asks for one.
    pub messages: Vec<(Duration, Vec<Step>, Option<Vec<Step>>)>,
    pub events: Vec<(Duration, Event)>,
    pub faults: Faults,
}

impl Faults {
    pub fn is_none(&self) -> bool {
        self.lost + self.unanswered + self.late + self.undelivered == 0
    }
}

/// Messages come, and things go wrong, within this time.
pub const STORM: Duration = Duration::from_secs(40);

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let ack_wait = Duration::from_secs(one_of(dice, &[1, 2, 5, 5, 30, 30]));
        let mut plan = Self {
            seed,
            workers: dice.random_range(1..=3),
            max_inflight: dice.random_range(1..=4),
            ack_wait,
            max_attempts: dice.random_range(1..=5),
            initial_wait: Duration::from_millis(one_of(dice, &[0, 300, 4_000])),
            max_wait: Duration::from_secs(one_of(dice, &[4, 10])),
            max_retry_after: Duration::from_secs(20),
            confirm_acks: dice.random(),
            callback_attempts: dice.random_range(1..=3),
            messages: Vec::new(),
            events: Vec::new(),
            faults: Faults::default(),
        };
        for _ in 0..dice.random_range(1..=12) {
            let (at, calls) = (any(dice, STORM / 3), script(dice, ack_wait));
            let callback = dice.random_bool(0.5).then(|| script(dice, ack_wait));
            plan.messages.push((at, calls, callback));
        }
        plan.messages.sort_by_key(|(at, ..)| *at);
        // Each kind of trouble is there or not, so that some seeds are calm and others know one kind alone.
        for trouble in 0..3 {
            for _ in 0..one_of(dice, &[0, 0, 1, 3]) {
                let event = match trouble {
                    0 => Event::Crash { back_after: any(dice, ack_wait * 2) },
                    1 => Event::Drain { grace: any(dice, ack_wait * 2) },
                    _ => Event::Outage { lasts: any(dice, ack_wait * 2), killed: dice.random() },
                };
                // Half of it strikes while a message is worked on, where it hurts.
                let (queued, ..) = plan.messages[dice.random_range(0..plan.messages.len())];
                let at = if dice.random() { queued + any(dice, Duration::from_millis(400)) } else { any(dice, STORM) };
                plan.events.push((at, event));
            }
        }
        plan.events.sort_by_key(|(at, _)| *at);
        if dice.random_bool(0.5) {
            let mut often = || one_of(dice, &[0, 20, 100]);
            plan.faults = Faults {
                lost: often(),
                unanswered: often(),
                late: often(),
                undelivered: often(),
                late_redelivery: Duration::from_millis(one_of(dice, &[0, 3_000])),
            };
        }
        plan
    }

    /// The same without any trouble.
    pub fn calm(seed: u64) -> Self {
        Self { events: Vec::new(), faults: Faults::default(), ..Self::of(seed) }
    }

    /// The wait that the contract (§4, §5) gives after the attempt `retry` (from 0); `None` where there is no other.
    pub fn wait_after(&self, answer: Answer, retry: u32) -> Option<Duration> {
        let backoff = || self.max_wait.min(self.initial_wait * 2_u32.pow(retry));
        let wait = match answer {
            Answer::Status(200 | 400) => return None,
            Answer::PushedBack(_, seconds) => Duration::from_secs(seconds).min(self.max_retry_after).max(self.initial_wait),
            Answer::Status(_) | Answer::TimedOut | Answer::Unreachable => backoff(),
        };
        (retry + 1 < self.max_attempts).then_some(wait)
    }

    /// How many calls a script makes where nothing goes wrong.
    pub fn calls(&self, script: &[Step]) -> usize {
        let last = (0..).find(|&retry| self.wait_after(step(script, retry as usize).answer, retry).is_none());
        last.unwrap() as usize + 1
    }

    /// How many POSTs the script of a callback makes where nothing goes wrong.
    pub fn posts(&self, script: &[Step]) -> usize {
        let ends = |n: &usize| matches!(step(script, *n).answer, Answer::Status(200 | 400));
        (0..self.callback_attempts as usize).find(ends).map_or(self.callback_attempts as usize, |last| last + 1)
    }
}

/// The step of the `n`th call or POST, from 0.
pub fn step(script: &[Step], n: usize) -> Step {
    script[n.min(script.len() - 1)]
}

fn script(dice: &mut StdRng, ack_wait: Duration) -> Vec<Step> {
    use Answer::{PushedBack, Status, TimedOut, Unreachable};
    let bad = [Status(500), Status(500), Status(502), TimedOut, Unreachable, PushedBack(503, 2), PushedBack(429, 60), PushedBack(429, 0)];
    let takes = |dice: &mut StdRng| {
        let quick = Duration::from_millis(dice.random_range(1..200));
        if dice.random_bool(0.2) { any(dice, ack_wait * 3) } else { quick }
    };
    let mut steps = Vec::new();
    for _ in 0..dice.random_range(0..=3) {
        steps.push(Step { answer: one_of(dice, &bad), takes: takes(dice) });
    }
    steps.push(Step { answer: one_of(dice, &[Status(200), Status(200), Status(200), Status(500), Status(400)]), takes: takes(dice) });
    steps
}

fn one_of<T: Copy>(dice: &mut StdRng, choices: &[T]) -> T {
    choices[dice.random_range(0..choices.len())]
}

/// Up to `most`, in whole milliseconds: tokio's clock knows no shorter time.
pub fn any(dice: &mut StdRng, most: Duration) -> Duration {
    Duration::from_millis(dice.random_range(0..=most.as_millis() as u64))
}
