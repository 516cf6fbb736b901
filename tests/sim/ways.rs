//! Small plans, one for each way that a message can go. Nothing goes wrong in them but what strikes a worker
//! at one of its steps.

use std::time::Duration;

use queue_worker::{retry::backoff::Jitter, worker::pull::SPAN};

use crate::{
    hostile::Headers,
    plan::{
        Answer, Event, FaultRates, Input, LONG_NAME, Message, Plan, ROOMY, Step, TIGHT, Timers, USUAL_PAYLOAD,
    },
};

/// A way, and the steps that a worker has to take on it.
#[derive(Debug, Clone)]
pub struct Way {
    pub name: &'static str,
    pub plan: Plan,
    /// What a message has to have come to where nothing failpoints: calls, POSTs, dead letters.
    pub counts: (usize, usize, usize),
}

const OK: Answer = Answer::Status(200);
const BAD: Answer = Answer::Status(500);
const NO: Answer = Answer::Status(400);

/// All ways, each by both timers where it is parked on it.
pub fn all() -> Vec<Way> {
    let mut ways = vec![
        way("success", &[OK], None, (1, 0, 0)),
        way("confirmed-success", &[OK], None, (1, 0, 0)).with(|plan| plan.confirm_acks = true),
        way("slow-success", &[OK], None, (1, 0, 0))
            .with(|plan| plan.messages[0].script[0].takes = plan.ack_wait * 2),
        way("immediate-retry", &[BAD, OK], None, (2, 0, 0)).with(|plan| plan.immediate_retries = 1),
        way("refusal", &[NO], None, (1, 0, 1)),
        way("exhaustion-at-once", &[BAD], None, (1, 0, 1)).with(|plan| plan.max_attempts = 1),
        way("expiry", &[BAD, OK], None, (1, 0, 1))
            .with(|plan| plan.max_message_age = Some(Duration::from_secs(1))),
        way("no-invocation", &[], None, (0, 0, 1)),
        way("callback", &[OK], Some(&[OK]), (1, 1, 0)),
        way("callback-of-a-refusal", &[NO], Some(&[OK]), (1, 1, 1)),
        way("callback-refused", &[OK], Some(&[NO]), (1, 1, 1)),
        way("drop", &[NO], None, (1, 0, 0)).with(|plan| plan.dead_letters = false),
        way("drop-of-both", &[NO], Some(&[NO]), (1, 1, 0)).with(|plan| plan.dead_letters = false),
        way("no-room-for-a-retry", &[BAD, OK], None, (2, 0, 0)).with(Way::fill),
        way("no-room-for-a-letter", &[], None, (0, 0, 1)).with(Way::fill),
        way("unfired", &[BAD, OK], None, (2, 0, 0)).with(|plan| plan.unfired = 1_000),
        way("unfired-without-room", &[BAD, OK], None, (2, 0, 0)).with(|plan| {
            (plan.unfired, plan.max_payload, plan.function) = (1_000, ROOMY, LONG_NAME);
            // With so much it is stored as it is, and has no room for what moving it in one step takes.
            plan.messages[0].room = Some(820);
        }),
        way("downgrade", &[BAD, OK], None, (2, 0, 0)).with(|plan| {
            plan.events =
                vec![(Duration::from_millis(300), Event::Downgrade { lasts: Duration::from_secs(20) })];
        }),
        way("pause", &[BAD, OK], None, (2, 0, 0)).with(|plan| {
            plan.events =
                vec![(Duration::from_millis(5), Event::Pause), (Duration::from_secs(5), Event::Resume)];
        }),
        way("beside-others", &[BAD, OK], None, (6, 0, 0)).with(|plan| {
            plan.max_inflight = 2;
            plan.messages = vec![plan.messages[0].clone(); 3];
        }),
        way("two-queues", &[BAD, OK], None, (4, 0, 0)).with(|plan| {
            plan.queues = 2;
            plan.messages.push(Message { queue: 1, ..plan.messages[0].clone() });
        }),
    ];
    ways.extend(cancelled());
    for timers in [Timers::Schedules, Timers::Levels] {
        let name = |schedules, levels| if timers == Timers::Schedules { schedules } else { levels };
        ways.extend(
            [
                way(name("retry", "retry-by-levels"), &[BAD, OK], None, (2, 0, 0)),
                way(
                    name("retry-after", "retry-after-by-levels"),
                    &[Answer::PushedBack(429, 2), OK],
                    None,
                    (2, 0, 0),
                ),
                way(name("exhaustion", "exhaustion-by-levels"), &[BAD], None, (3, 0, 1)),
                way(name("callback-parked", "callback-parked-by-levels"), &[OK], Some(&[BAD, OK]), (1, 2, 0)),
                way(name("callback-dead", "callback-dead-by-levels"), &[BAD], Some(&[BAD]), (3, 2, 2)),
            ]
            .map(|way| way.with(|plan| plan.timers = timers)),
        );
    }
    ways
}

/// Somebody cancels the call.
fn cancelled() -> Vec<Way> {
    vec![
        way("cancelled-while-it-runs", &[OK], None, (1, 0, 1)).with(|plan| Way::cancel(plan, 60)),
        way("cancelled-while-it-waits", &[OK], None, (1, 0, 1)).with(|plan| {
            plan.messages.push(Message { at: Duration::from_millis(20), ..plan.messages[0].clone() });
            plan.events = vec![(Duration::from_millis(60), Event::Cancel { message: 1 })];
        }),
        way("cancelled-while-it-is-parked", &[BAD, OK], None, (1, 0, 1)).with(|plan| Way::cancel(plan, 900)),
        way("cancelled-and-told", &[OK], Some(&[OK]), (1, 1, 1)).with(|plan| Way::cancel(plan, 60)),
    ]
}

/// The calls kill their worker until the message is given up, and a bystander completes.
pub fn poison() -> Way {
    way("poison", &[Answer::Poison], None, (9, 0, 1)).with(|plan| {
        plan.max_inflight = 2;
        plan.messages.push(Message {
            script: vec![Step { answer: OK, takes: Duration::from_millis(300) }],
            ..plan.messages[0].clone()
        });
    })
}

impl Way {
    /// The message is as large as the broker takes, until that is raised.
    fn fill(plan: &mut Plan) {
        plan.max_payload = TIGHT;
        plan.messages[0].room = Some(0);
    }

    /// Its first message is cancelled after so many milliseconds.
    fn cancel(plan: &mut Plan, after: u64) {
        plan.events = vec![(Duration::from_millis(after), Event::Cancel { message: 0 })];
    }

    fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }
}

fn way(
    name: &'static str,
    script: &[Answer],
    callback: Option<&[Answer]>,
    counts: (usize, usize, usize),
) -> Way {
    let steps = |answers: &[Answer]| {
        answers.iter().map(|&answer| Step { answer, takes: Duration::from_millis(100) }).collect()
    };
    let message = Message {
        at: Duration::from_millis(10),
        queue: 0,
        script: steps(script),
        callback: callback.map(steps),
        headers: Headers::None,
        room: None,
    };
    let plan = Plan {
        seed: 1,
        input: Input::OpenFaas,
        workers: 1,
        queues: 1,
        timers: Timers::Schedules,
        max_inflight: 1,
        ahead: SPAN,
        ack_wait: Duration::from_secs(4),
        max_attempts: 3,
        immediate_retries: 0,
        initial_wait: Duration::from_millis(1_500),
        max_wait: Duration::from_secs(2),
        jitter: Jitter::None,
        dates: false,
        max_retry_after: Duration::from_secs(20),
        max_message_age: None,
        confirm_acks: false,
        callback_attempts: 2,
        level_room: 10_000,
        level_held: 0,
        dead_letters: true,
        function: "f.ns",
        max_payload: USUAL_PAYLOAD,
        unfired: 0,
        messages: vec![message],
        events: Vec::new(),
        fault_rates: FaultRates::default(),
        failpoints: Vec::new(),
    };
    Way { name, plan, counts }
}
