//! Lives a plan through, in virtual time: workers, weather, and the look at what is left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use queue_worker::{
    backoff::{Backoff, Jitter},
    callback::Callbacks,
    drain::Running,
    gate::Gate,
    lookup::Lookup,
    metrics::{Exposition, Metrics},
    permits::Permits,
    policy::RetryPolicy,
    pull::Pull,
    settle::Settle,
    timer::Timer,
    trace::Tracer,
    worker::{Parts, Worker},
};
use rand::RngExt;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Line,
    plan::{Answer, Event, Faults, Plan, STORM, Step},
    planted::{Bug, Planted},
    server::CONSUMERS,
    shared::Shared,
    tap::Tap,
};

/// After the storm everything has come to its end by then.
const QUIET: Duration = Duration::from_secs(1800);
/// No request takes effect later than so long after it was made.
const LATEST: Duration = Duration::from_secs(10);

/// What came of a seed.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub broken: Vec<String>,
    pub trace: Vec<String>,
    pub tally: BTreeMap<&'static str, usize>,
}

/// Runs a plan in a world of its own.
pub fn run(plan: Plan, bug: Option<Bug>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World {
            shared: Shared::new(plan),
            metrics: Exposition::new("ns").unwrap().queue("q").unwrap(),
            bug,
            next: 0,
            alive: Vec::new(),
        };
        world.live().await;
        let ledger = &mut world.shared.state().ledger;
        Report { broken: std::mem::take(&mut ledger.broken), trace: std::mem::take(&mut ledger.trace), tally: ledger.tally() }
    })
}

struct World {
    shared: Shared,
    metrics: Metrics,
    bug: Option<Bug>,
    /// The next worker's number.
    next: usize,
    alive: Vec<Process>,
}

/// A running worker.
struct Process {
    number: usize,
    running: Running,
    crashed: CancellationToken,
}

impl World {
    async fn live(&mut self) {
        let plan = self.shared.plan.clone();
        for _ in 0..plan.workers {
            self.start();
        }
        let senders = self.send(&plan);
        let began = Instant::now();
        for (at, event) in &plan.events {
            sleep_until(began + *at).await;
            self.note(&format!("{event:?}"));
            self.happen(*event).await;
        }
        let _ = senders.await;
        let _ = timeout_at(began + STORM, self.quiet()).await;
        self.shared.state().faults = Faults::default();
        let calm = plan.events.is_empty() && plan.faults.is_none();
        if !self.quiet().await {
            self.shared.state().ledger.require(false, || "it comes to no end".to_owned());
        } else {
            self.shared.state().ledger.check_ends(&plan, calm);
            self.probe().await;
        }
        while let Some(process) = self.alive.pop() {
            drain(&self.shared, process, Duration::ZERO).await;
        }
    }

    fn note(&self, text: &str) {
        self.shared.state().ledger.note(text);
    }

    /// Queues the messages, each in its time, whenever the broker is there.
    fn send(&self, plan: &Plan) -> tokio::task::JoinHandle<()> {
        let (shared, messages) = (self.shared.clone(), plan.messages.clone());
        let began = Instant::now();
        tokio::spawn(async move {
            for (number, (at, script, callback)) in messages.into_iter().enumerate() {
                sleep_until(began + at).await;
                while !shared.state().up {
                    sleep(Duration::from_millis(100)).await;
                }
                shared.queue(&format!("m{number}"), script, callback);
            }
        })
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Crash { back_after } => {
                let victim = self.victim();
                victim.crashed.cancel();
                sleep(back_after).await;
                self.start();
            }
            Event::Drain { grace } => {
                let leaving = self.victim();
                self.start();
                drain(&self.shared, leaving, grace).await;
            }
            Event::Outage { lasts, killed } => {
                {
                    let state = &mut *self.shared.state();
                    (state.up, state.outages) = (false, state.outages + 1);
                    state.blemished.extend(self.alive.iter().map(|process| process.number));
                    if killed {
                        let dice = &mut state.dice;
                        state.ledger.forgetful = true;
                        state.server.killed(|| dice.random(), Instant::now());
                    }
                }
                self.shared.stir();
                sleep(lasts).await;
                self.shared.state().up = true;
                self.note("the broker is back");
                self.shared.stir();
            }
        }
    }

    fn victim(&mut self) -> Process {
        let index = self.shared.state().dice.random_range(0..self.alive.len());
        self.alive.remove(index)
    }

    fn start(&mut self) {
        let plan = &self.shared.plan;
        let (running, crashed) = (Running::default(), CancellationToken::new());
        let number = self.next;
        self.next += 1;
        self.note(&format!("worker {number} starts"));
        let line = Line { shared: self.shared.clone(), worker: number, crashed: crashed.clone() };
        let worker = Worker::new(Parts {
            settle: Settle {
                broker: Planted { line: line.clone(), bug: self.bug },
                names: self.shared.names.clone(),
                timer: Timer::Schedules,
                confirm_acks: plan.confirm_acks,
                dead_letters: true,
                metrics: self.metrics.clone(),
            },
            gateway: line.clone(),
            policy: RetryPolicy {
                max_attempts: plan.max_attempts,
                codes: "429,500,502".parse().unwrap(),
                // The worker throws its own die for the jitter, which no seed governs.
                backoff: Backoff { initial: plan.initial_wait, max: plan.max_wait, jitter: Jitter::None },
                immediate_retries: 0,
                max_retry_after: plan.max_retry_after,
                max_message_age: None,
            },
            lookup: Lookup::Off,
            callbacks: Callbacks { post: Arc::new(line.clone()), attempts: plan.callback_attempts, max_body: 0 },
            gate: Gate::default(),
            metrics: self.metrics.clone(),
            tracer: Tracer::default(),
            name: format!("w{number}"),
            cut: running.cut.clone(),
        });
        let lanes = Permits::new(plan.max_inflight).lanes(CONSUMERS.len());
        for (lane, consumer) in lanes.into_iter().zip(CONSUMERS) {
            let source = Tap::new(line.clone(), consumer);
            running.pulling.spawn(
                Pull {
                    worker: worker.clone(),
                    lane,
                    source,
                    parked: consumer == 1,
                    tasks: running.calls.clone(),
                    stop: running.stop.clone(),
                }
                .run(),
            );
        }
        self.alive.push(Process { number, running, crashed });
    }

    /// Waits until nothing is queued or parked, and nothing late comes after.
    async fn quiet(&self) -> bool {
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            if self.shared.state().server.is_empty() {
                sleep(if self.shared.plan.faults.late > 0 { LATEST } else { Duration::from_millis(500) }).await;
                if self.shared.state().server.is_empty() {
                    return true;
                }
            }
            let _ = timeout(Duration::from_secs(60), self.shared.changed.notified()).await;
        }
        false
    }

    /// One worker alone still has all its permits.
    async fn probe(&mut self) {
        while self.alive.len() > 1 {
            let process = self.alive.remove(0);
            drain(&self.shared, process, Duration::ZERO).await;
        }
        let (number, plan) = (self.alive[0].number, self.shared.plan.clone());
        self.shared.state().ledger.most_at_once(number);
        for probe in 0..plan.max_inflight * 2 {
            self.shared.queue(&format!("probe{probe}"), vec![Step { answer: Answer::Status(200), takes: plan.ack_wait * 2 }], None);
        }
        let quiet = self.quiet().await;
        let ledger = &mut self.shared.state().ledger;
        let most = ledger.most_at_once(number);
        ledger.require(quiet && most == plan.max_inflight, || format!("of {} permits only {most} are left", plan.max_inflight));
    }
}

/// Leaves as the process does on SIGTERM: stop pulling, wait within the grace, cut off, hand back.
async fn drain(shared: &Shared, process: Process, grace: Duration) {
    let Process { number, running, crashed } = process;
    shared.state().ledger.note(&format!("worker {number} drains within {grace:?}"));
    running.drain(grace).await;
    crashed.cancel();
    let state = &mut *shared.state();
    let (held, clean) = (state.server.held_by(number), !state.blemished.contains(&number));
    state.ledger.require(!clean || held == 0, || format!("worker {number} left {held} deliveries behind"));
}
