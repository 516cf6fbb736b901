//! The fault schedules of the seeds.

use std::time::Duration;

use queue_worker::{retry::backoff::Jitter, worker::pull::SPAN};
use rand::{RngExt, SeedableRng};

use crate::{
    hostile::Headers,
    plan::{
        Answer, Dice, Event, FaultRates, Input, LONG_NAME, Message, Plan, ROOMY, Step, TIGHT, Timers,
        USUAL_PAYLOAD, any, one_of,
    },
};

/// Messages come, and things go wrong, within this time.
pub const FAULT_WINDOW: Duration = Duration::from_secs(40);
/// More seconds than the broker remembers ids.
const LONG: u64 = 700;

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let dice = &mut Dice::seed_from_u64(seed);
        let mut plan = settings(seed, dice);
        for _ in 0..dice.random_range(1..=12) {
            plan.messages.push(message(dice, &plan));
        }
        plan.messages.sort_by_key(|message| message.at);
        // Each kind of trouble is there or not, so that some seeds are calm and others know one kind alone.
        for trouble in 0..6 {
            let times: &[usize] = if trouble < 3 { &[0, 0, 1, 3] } else { &[0, 0, 0, 0, 1] };
            for _ in 0..one_of(dice, times) {
                let event = event(dice, trouble, plan.ack_wait);
                // Half of it happens while a message is worked on, where it hurts.
                let queued = plan.messages[dice.random_range(0..plan.messages.len())].at;
                let at = if dice.random() {
                    queued + any(dice, Duration::from_millis(400))
                } else {
                    any(dice, FAULT_WINDOW)
                };
                plan.events.push((at, event));
            }
        }
        plan.events.sort_by_key(|(at, _)| *at);
        if dice.random_bool(0.5) {
            let mut often = || one_of(dice, &[0, 20, 100]);
            plan.fault_rates = FaultRates {
                lost: often(),
                unanswered: often(),
                late: often(),
                undelivered: often(),
                late_redelivery: Duration::from_millis(one_of(dice, &[0, 3_000])),
                damaged: 0,
            };
        }
        plan.besides(&mut Dice::seed_from_u64(seed.rotate_left(32)));
        plan
    }

    /// What came later than the rest has dice of its own, so that seeds go on to mean what they meant.
    fn besides(&mut self, dice: &mut Dice) {
        self.dead_letters = !dice.random_ratio(1, 8);
        self.unfired = if dice.random_ratio(1, 5) { one_of(dice, &[300, 1_000]) } else { 0 };
        if dice.random_ratio(1, 8) {
            self.events
                .push((any(dice, FAULT_WINDOW / 2), Event::Downgrade { lasts: any(dice, FAULT_WINDOW / 2) }));
            self.events.sort_by_key(|(at, _)| *at);
        }
        if dice.random_ratio(1, 6) {
            self.max_payload = one_of(dice, &[TIGHT, ROOMY]);
            self.function = one_of(dice, &[self.function, LONG_NAME]);
            for message in &mut self.messages {
                message.room = dice.random::<bool>().then(|| one_of(dice, &[0, 1, 50, 200, 500, 1_000]));
            }
        }
        if dice.random_ratio(1, 5) {
            let many = if self.max_payload == TIGHT { 4 } else { 90 };
            for message in &mut self.messages {
                message.headers =
                    one_of(dice, &[Headers::Lies, Headers::Lies, Headers::None, Headers::Many(many)]);
            }
        }
        self.fault_rates.damaged = if dice.random_ratio(1, 10) { 100 } else { 0 };
        self.jitter = one_of(dice, &[Jitter::None, Jitter::None, Jitter::Full, Jitter::Equal]);
        self.dates = dice.random_ratio(1, 3);
        self.input = one_of(dice, &[Input::OpenFaas, Input::OpenFaas, Input::Http, Input::CloudEvents]);
        self.suit_the_input();
        // What is called at a target has another name than the function that is paused.
        if self.input == Input::OpenFaas && dice.random_ratio(1, 5) {
            let at = any(dice, FAULT_WINDOW / 2);
            self.events.extend([(at, Event::Pause), (at + any(dice, FAULT_WINDOW / 2), Event::Resume)]);
            self.events.sort_by_key(|(at, _)| *at);
        }
    }

    /// Where headers are a part of the call they go on with it, and leave less room; and what is sent as it
    /// is has no form that could be another.
    fn suit_the_input(&mut self) {
        for message in self.messages.iter_mut().filter(|_| self.input != Input::OpenFaas) {
            if let Headers::Many(many) = &mut message.headers {
                *many = 4;
            }
            if message.script.is_empty() && self.input == Input::Http {
                message.script.push(Step { answer: Answer::Status(200), takes: Duration::ZERO });
            }
        }
    }

    /// The same without any trouble.
    pub fn calm(seed: u64) -> Self {
        let mut plan = Self { events: Vec::new(), fault_rates: FaultRates::default(), ..Self::of(seed) };
        for step in plan.messages.iter_mut().flat_map(|message| &mut message.script) {
            if step.answer == Answer::Poison {
                step.answer = Answer::Status(200);
            }
        }
        plan
    }
}

fn settings(seed: u64, dice: &mut Dice) -> Plan {
    Plan {
        seed,
        input: Input::OpenFaas,
        workers: dice.random_range(1..=3),
        queues: one_of(dice, &[1, 1, 1, 2]),
        timers: one_of(dice, &[Timers::Schedules, Timers::Schedules, Timers::Levels, Timers::Mixed]),
        max_inflight: dice.random_range(1..=4),
        ahead: SPAN,
        ack_wait: Duration::from_secs(one_of(dice, &[1, 2, 5, 5, 30, 30])),
        max_attempts: dice.random_range(1..=5),
        immediate_retries: one_of(dice, &[0, 0, 0, 1]),
        initial_wait: Duration::from_millis(one_of(dice, &[0, 300, 4_000])),
        max_wait: Duration::from_secs(one_of(dice, &[4, 10])),
        jitter: Jitter::None,
        dates: false,
        max_retry_after: Duration::from_secs(20),
        max_message_age: one_of(dice, &[None, None, None, Some(Duration::from_secs(15))]),
        confirm_acks: dice.random(),
        callback_attempts: dice.random_range(1..=3),
        level_room: 1 + seed % 4,
        level_held: 0,
        dead_letters: true,
        function: "f.ns",
        max_payload: USUAL_PAYLOAD,
        unfired: 0,
        messages: Vec::new(),
        events: Vec::new(),
        fault_rates: FaultRates::default(),
        failpoints: Vec::new(),
    }
}

fn message(dice: &mut Dice, plan: &Plan) -> Message {
    let script = if dice.random_ratio(1, 40) { Vec::new() } else { script(dice, plan.ack_wait) };
    Message {
        at: any(dice, FAULT_WINDOW / 3),
        queue: dice.random_range(0..plan.queues),
        callback: (!script.is_empty() && dice.random()).then(|| self::script(dice, plan.ack_wait)),
        script: poisoned(dice, script),
        headers: Headers::None,
        room: None,
    }
}

fn event(dice: &mut Dice, trouble: usize, ack_wait: Duration) -> Event {
    match trouble {
        0 => Event::Crash { back_after: any(dice, ack_wait * 2) },
        1 => Event::Drain { grace: any(dice, ack_wait * 2) },
        2 => Event::Outage { lasts: any(dice, ack_wait * 2), killed: dice.random() },
        3 => Event::GatewayAway { lasts: any(dice, Duration::from_secs(10)) },
        4 => Event::ErrorBackoff { lasts: any(dice, ack_wait * 3) },
        _ => Event::Clock { forward: dice.random(), by: Duration::from_secs(one_of(dice, &[2, 60, LONG])) },
    }
}

fn script(dice: &mut Dice, ack_wait: Duration) -> Vec<Step> {
    use Answer::{Broken, PushedBack, Status, TimedOut, Unreachable};
    let bad = [
        Status(500),
        Status(502),
        Broken,
        TimedOut,
        Unreachable,
        PushedBack(503, 2),
        PushedBack(429, 60),
        PushedBack(429, 0),
    ];
    let takes = |dice: &mut Dice| {
        let quick = Duration::from_millis(dice.random_range(1..200));
        if dice.random_bool(0.2) { any(dice, ack_wait * 3) } else { quick }
    };
    let mut steps = Vec::new();
    for _ in 0..dice.random_range(0..=3) {
        steps.push(Step { answer: one_of(dice, &bad), takes: takes(dice) });
    }
    steps.push(Step {
        answer: one_of(dice, &[Status(200), Status(200), Status(200), Status(500), Status(400)]),
        takes: takes(dice),
    });
    steps
}

/// Now and then a call kills its worker, once or always.
fn poisoned(dice: &mut Dice, mut script: Vec<Step>) -> Vec<Step> {
    if dice.random_ratio(1, 60) && !script.is_empty() {
        let at = dice.random_range(0..script.len());
        script[at].answer = Answer::Poison;
    }
    script
}
