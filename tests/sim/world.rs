//! Lives a plan through, in virtual time: workers, faults, and the look at what is left.

use std::{collections::BTreeMap, time::Duration};

use queue_worker::observe::metrics::{Metrics, Registry};
use rand::RngExt;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, advance, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    failpoint::Fault,
    hostile::Headers,
    mutant::Bug,
    plan::{Answer, Event, FaultRates, Message, Plan, Step, USUAL_PAYLOAD},
    process::Process,
    schedule::FAULT_WINDOW,
    shared::Shared,
};

/// After the faults everything has come to its end by then, clocks that are set aside.
const QUIET: Duration = Duration::from_secs(1800);
/// No request takes effect later than so long after it was made.
const LATEST: Duration = Duration::from_secs(10);
/// How long a crashed worker or a dead server is away.
const AWAY: Duration = Duration::from_secs(1);

/// What came of a plan.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub broken: Vec<String>,
    /// The story, where it was asked for.
    pub trace: Vec<String>,
    /// How much of what can happen did happen.
    pub tally: Tally,
    /// The steps that each worker took until all was quiet.
    pub steps: Steps,
}

type Tally = BTreeMap<&'static str, usize>;
type Steps = BTreeMap<usize, Vec<&'static str>>;

/// Runs a plan in a world of its own.
pub fn run(plan: Plan, bug: Option<Bug>) -> Report {
    live(plan, bug, false)
}

/// The same, and tells the story.
pub fn tell(plan: Plan, bug: Option<Bug>) -> Report {
    live(plan, bug, true)
}

fn live(plan: Plan, bug: Option<Bug>, verbose: bool) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let registry = Registry::new("ns").unwrap();
        let (shared, faults) = Shared::new(plan, registry.clone(), verbose);
        let metrics = shared.queues.iter().map(|names| registry.queue(&names.queue).unwrap()).collect();
        let mut world = World { shared, metrics, bug, faults, next: 0, alive: Vec::new() };
        let (tally, steps) = world.live().await;
        let ledger = &mut world.shared.state().ledger;
        Report {
            broken: std::mem::take(&mut ledger.broken),
            trace: std::mem::take(&mut ledger.trace),
            tally,
            steps,
        }
    })
}

struct World {
    shared: Shared,
    metrics: Vec<Metrics>,
    bug: Option<Bug>,
    faults: UnboundedReceiver<(usize, Fault)>,
    /// The next worker's number.
    next: usize,
    alive: Vec<Process>,
}

impl World {
    async fn live(&mut self) -> (Tally, Steps) {
        let plan = self.shared.plan.clone();
        let began = Instant::now();
        for _ in 0..plan.workers {
            self.start();
        }
        let senders = self.send(&plan);
        for (at, event) in &plan.events {
            self.until(began + *at).await;
            self.note(|| format!("{event:?}"));
            self.happen(*event).await;
        }
        while !senders.is_finished() {
            self.until(Instant::now() + Duration::from_millis(100)).await;
        }
        self.quiet(began + FAULT_WINDOW).await;
        {
            let state = &mut *self.shared.state();
            (state.fault_rates, state.server.max_payload) = (FaultRates::default(), USUAL_PAYLOAD);
        }
        let stepped: Duration = plan
            .events
            .iter()
            .map(|(_, event)| if let Event::Clock { by, .. } = event { *by } else { Duration::ZERO })
            .sum();
        let quiet = self.quiet(Instant::now() + QUIET + stepped).await;
        let steps = self.shared.state().steps.clone();
        let tally = self.shared.state().ledger.tally();
        if quiet {
            self.shared.state().ledger.check_ends();
            // Else some might not be called, but expire.
            if plan.max_message_age.is_none() {
                self.probe().await;
            }
        } else {
            self.shared.state().ledger.require(false, || "it comes to no end".to_owned());
        }
        while let Some(process) = self.alive.pop() {
            process.drain(&self.shared, Duration::ZERO).await;
        }
        (tally, steps)
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.shared.state().ledger.note(text);
    }

    /// Queues the messages, each in its time, whenever the broker is there.
    fn send(&self, plan: &Plan) -> tokio::task::JoinHandle<()> {
        let (shared, messages) = (self.shared.clone(), plan.messages.clone());
        let began = Instant::now();
        tokio::spawn(async move {
            for (number, message) in messages.into_iter().enumerate() {
                sleep_until(began + message.at).await;
                while !shared.state().up {
                    sleep(Duration::from_millis(100)).await;
                }
                shared.queue(&format!("m{number}"), message);
            }
        })
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Crash { back_after } => {
                let victim = self.victim();
                victim.crashed.cancel();
                self.until(Instant::now() + back_after).await;
                self.start();
            }
            Event::Drain { grace } => {
                let leaving = self.victim();
                self.start();
                leaving.drain(&self.shared, grace).await;
            }
            Event::Outage { lasts, killed } => {
                self.shared.broker_goes(killed);
                self.until(Instant::now() + lasts).await;
                self.shared.broker_is_back();
            }
            Event::GatewayAway { lasts } => {
                self.shared.state().gateway.cancel();
                self.until(Instant::now() + lasts).await;
                self.shared.state().gateway = CancellationToken::new();
            }
            Event::ErrorBackoff { lasts } => {
                self.shared.state().blemished.extend(self.alive.iter().map(|process| process.number));
                advance(lasts).await;
            }
            Event::Clock { forward, by } => {
                let state = &mut *self.shared.state();
                state.server.step_clock(forward, by, Instant::now());
                state.ledger.clock_stepped(forward, by);
                state.stir();
            }
            Event::Pause => self.shared.pause(true),
            Event::Resume => self.shared.pause(false),
            Event::Cancel { message } => self.shared.cancel(&format!("m{message}")),
            Event::Downgrade { lasts } => {
                for schedules in [false, true] {
                    self.shared.broker_goes(false);
                    self.until(Instant::now() + AWAY).await;
                    self.shared.state().server.becomes(schedules);
                    self.shared.broker_is_back();
                    self.until(Instant::now() + if schedules { Duration::ZERO } else { lasts }).await;
                }
            }
        }
    }

    /// A fault at a worker has consequences for others.
    async fn faulted(&mut self, worker: usize, fault: Fault) {
        match fault {
            Fault::CrashBefore | Fault::CrashAfter => {
                self.alive.retain(|process| process.number != worker);
                sleep(AWAY).await;
                self.start();
            }
            Fault::BrokerKilled => {
                sleep(AWAY).await;
                self.shared.broker_is_back();
            }
            Fault::GatewayDies => {
                self.shared.state().gateway.cancel();
                sleep(AWAY).await;
                self.shared.state().gateway = CancellationToken::new();
            }
            other => {
                let index = self.alive.iter().position(|process| process.number == worker);
                if let (Some(grace), Some(index)) = (other.grace(), index) {
                    let leaving = self.alive.remove(index);
                    self.start();
                    leaving.drain(&self.shared, grace).await;
                }
            }
        }
    }

    /// Lets time pass.
    async fn until(&mut self, end: Instant) {
        loop {
            tokio::select! {
                biased;
                Some((worker, fault)) = self.faults.recv() => self.faulted(worker, fault).await,
                () = sleep_until(end) => return,
            }
        }
    }

    /// A worker for a fault. There may be none just now, but one will come.
    fn victim(&mut self) -> Process {
        if self.alive.is_empty() {
            self.start();
        }
        let index = self.shared.state().dice.random_range(0..self.alive.len());
        self.alive.remove(index)
    }

    fn start(&mut self) {
        self.note(|| format!("worker {} starts", self.next));
        self.alive.push(Process::start(&self.shared, self.next, &self.metrics, self.bug));
        self.next += 1;
    }

    /// Waits until nothing is queued or parked, and nothing late comes after.
    async fn quiet(&mut self, end: Instant) -> bool {
        let plan = self.shared.plan.clone();
        let late = plan.fault_rates.late > 0
            || plan.failpoints.iter().any(|failpoint| failpoint.fault == Fault::Late);
        while Instant::now() < end {
            if self.shared.state().server.is_empty() {
                self.until(Instant::now() + if late { LATEST } else { Duration::from_millis(500) }).await;
                if self.shared.state().server.is_empty() {
                    return true;
                }
            }
            let emptied = self.shared.emptied.clone();
            tokio::select! {
                biased;
                Some((worker, fault)) = self.faults.recv() => self.faulted(worker, fault).await,
                () = emptied.notified() => {}
                () = sleep_until(end) => {}
            }
        }
        false
    }

    /// One worker alone still has all its permits.
    async fn probe(&mut self) {
        while self.alive.len() > 1 {
            self.alive.remove(0).drain(&self.shared, Duration::ZERO).await;
        }
        let (number, plan) = (self.alive[0].number, self.shared.plan.clone());
        self.shared.state().ledger.most_at_once(number);
        for probe in 0..plan.max_inflight * 2 {
            let script = vec![Step { answer: Answer::Status(200), takes: plan.ack_wait * 2 }];
            self.shared.queue(
                &format!("probe{probe}"),
                Message {
                    at: Duration::ZERO,
                    queue: 0,
                    script,
                    callback: None,
                    headers: Headers::None,
                    room: None,
                },
            );
        }
        let quiet = self.quiet(Instant::now() + QUIET).await;
        let ledger = &mut self.shared.state().ledger;
        let most = ledger.most_at_once(number);
        ledger.require(quiet && most == plan.max_inflight, || {
            format!("of {} permits only {most} are left", plan.max_inflight)
        });
    }
}
