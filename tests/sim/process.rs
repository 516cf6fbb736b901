//! A worker's process in the simulated world: the parts that `service` puts together for the real one.

use std::{
    ops::Range,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use queue_worker::{
    broker::{audit::writer::Audit, clock::BrokerClock, pauses::Paused, standby::Standby},
    flow::{calls::Calls, gate::Gate, memory::Room, permits::Permits},
    message::timer::Timer,
    observe::{
        metrics::{Metrics, Registry},
        trace::Tracer,
    },
    outbound::{callback::Callbacks, lookup::Lookup},
    retry::{
        backoff::{Backoff, Jitter},
        policy::RetryPolicy,
    },
    tasks::drain::{Running, Told},
    upkeep::{
        janitor,
        levels::{self, Promoter},
    },
    worker::{
        delivery::settle::{Newest, Settle},
        process::{Chance, News, Parts, Worker},
        pull::{Pull, SPAN},
    },
};
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    client::Client,
    mutant::{Bug, Mutant},
    plan::Dice,
    shared::Shared,
    subscription::Subscription,
};

/// A running worker.
pub struct Process {
    pub number: usize,
    pub running: Running,
    pub crashed: CancellationToken,
}

impl Process {
    pub fn start(shared: &Shared, number: usize, metrics: &[Metrics], bug: Option<Bug>) -> Self {
        let (running, crashed) = (Running::default(), CancellationToken::new());
        // Where the broker has no schedules it can only take the other one.
        let timer =
            if shared.state().server.schedules { shared.plan.timers.of(number) } else { Timer::Levels };
        let clock = Arc::new(BrokerClock::default());
        let client =
            Client { shared: shared.clone(), worker: number, crashed: crashed.clone(), clock, timer };
        // What the set-up of the streams tells.
        let now = tokio::time::Instant::now();
        client.clock.learn(shared.state().server.wall(now), now);
        let permits =
            Permits::new(shared.plan.max_inflight + usize::from(bug == Some(Bug::OnePermitTooMany)));
        if bug == Some(Bug::LeaksPermit) {
            permits.lanes(1).iter().flat_map(|lane| lane.take_free(1)).for_each(std::mem::forget);
        }
        let gate = Gate::default();
        let broker = Mutant { client: client.clone(), bug, running: running.clone() };
        for (queue, metrics) in metrics.iter().enumerate() {
            let worker = worker(&broker, queue, metrics, &gate);
            let consumers = shared.state().server.consumers_of(queue);
            for (lane, (consumer, parked)) in
                permits.lanes(2).into_iter().zip([(consumers.start, false), (consumers.start + 1, true)])
            {
                let (worker, source) = (worker.clone(), subscription(&client, consumer, bug));
                let parked = parked || bug == Some(Bug::BelievesStrangers);
                let (tasks, stop, ahead) = (running.calls.clone(), running.stop.clone(), shared.plan.ahead);
                running.pulling.spawn(
                    Pull { worker, lane, source, parked, ahead, tasks, stop, unbegun: Arc::default() }.run(),
                );
            }
            if shared.plan.pauses() {
                let source = subscription(&client, consumers.start + 2, bug);
                let paused = (shared.paused[queue].clone(), shared.pausing.clone());
                running.pulling.spawn(released(
                    worker.clone(),
                    permits.clone(),
                    source,
                    paused,
                    running.clone(),
                ));
            }
            let levels = consumers.start + 3..consumers.end;
            for level in levels.clone().filter(|_| shared.plan.uses_levels()) {
                let (broker, source) = (broker.clone(), Subscription::new(client.clone(), level));
                let (names, stop) = (shared.queues[queue].clone(), running.stop.clone());
                running.pulling.spawn(
                    Promoter { broker, names, source, held: Arc::new(shared.plan.level_held.into()), stop }
                        .run(),
                );
            }
            if shared.plan.uses_levels() && bug != Some(Bug::MakesNoRoom) {
                tokio::spawn(look_after(client.clone(), levels));
            }
            let (broker, names, metrics) = (broker.clone(), shared.queues[queue].clone(), metrics.clone());
            let (timer, crashed) = (client.timer, crashed.clone());
            tokio::spawn(async move {
                crashed.run_until_cancelled(janitor::run(&broker, &names, timer, &metrics)).await
            });
        }
        Self { number, running, crashed }
    }

    /// Leaves as the process does on SIGTERM: stop pulling, wait within the grace, cut off, hand back.
    pub async fn drain(self, shared: &Shared, grace: Duration) {
        let Self { number, running, crashed } = self;
        shared.state().ledger.note(|| format!("worker {number} drains within {grace:?}"));
        running.drain(grace, &Told::new().1).await;
        crashed.cancel();
        let state = &mut *shared.state();
        let (held, clean) = (state.server.held_by(number), !state.blemished.contains(&number));
        state
            .ledger
            .require(!clean || held == 0, || format!("worker {number} left {held} deliveries behind"));
    }
}

/// A consumer, pulled from with this bug or without.
fn subscription(client: &Client, consumer: usize, bug: Option<Bug>) -> Subscription {
    let mut source = Subscription::new(client.clone(), consumer);
    source.trusts = bug == Some(Bug::NeverDoubts);
    source.knows_one_broker = bug == Some(Bug::KnowsOneBroker);
    source.drops = bug == Some(Bug::DropsAtDrain);
    source
}

/// Pulls what is held, whenever the function is not paused.
async fn released(
    worker: Worker<Mutant, Client>,
    permits: Permits,
    source: Subscription,
    (paused, told): (Paused, Arc<Notify>),
    running: Running,
) {
    // A watch channel would throw dice of its own.
    let is_paused = async |wanted: bool| {
        loop {
            let mut told = pin!(told.notified());
            told.as_mut().enable();
            if paused.known().pauses.functions.is_empty() != wanted {
                return;
            }
            told.await;
        }
    };
    while running.stop.run_until_cancelled(is_paused(false)).await.is_some() {
        let stop = running.stop.child_token();
        let pull = Pull {
            worker: worker.clone(),
            lane: permits.lane(),
            source: source.again(),
            parked: true,
            ahead: SPAN,
            tasks: running.calls.clone(),
            stop: stop.clone(),
            unbegun: Arc::default(),
        };
        let shut = async {
            is_paused(true).await;
            stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = pull.run() => {}
            () = shut => {}
        }
    }
}

/// Looks at the levels now and then, as far as the broker is there. A look that is lost is one that comes
/// later.
async fn look_after(client: Client, levels: Range<usize>) {
    loop {
        {
            let state = &mut *client.shared.state();
            if state.up {
                state.server.make_room(levels.clone());
            }
        }
        client.pause(levels::LOOK).await;
    }
}

fn worker(broker: &Mutant, queue: usize, metrics: &Metrics, gate: &Gate) -> Worker<Mutant, Client> {
    let (client, bug) = (&broker.client, broker.bug);
    let plan = &client.shared.plan;
    Worker::new(Parts {
        settle: Settle {
            broker: broker.clone(),
            names: client.shared.queues[queue].clone(),
            timer: client.timer,
            confirm_acks: plan.confirm_acks,
            dead_letters: plan.dead_letters,
            metrics: if bug == Some(Bug::DropsUncounted) { uncounted() } else { metrics.clone() },
            standby: Standby::new(
                &client.shared.queues[queue].queue,
                metrics.clone(),
                client.shared.queues.len(),
            ),
            newest: Newest::default(),
        },
        form: plan.form(&client.shared.queues[queue].queue),
        gateway: client.clone(),
        policy: RetryPolicy {
            max_attempts: plan.max_attempts + u32::from(bug == Some(Bug::OneAttemptTooMany)),
            codes: "429,500,502".parse().unwrap(),
            backoff: Backoff {
                initial: plan.initial_wait,
                max: plan.max_wait + Duration::from_secs(u64::from(bug == Some(Bug::WaitsTooLong))),
                jitter: if bug == Some(Bug::JittersTooFar) { Jitter::Full } else { plan.jitter },
            },
            immediate_retries: plan.immediate_retries,
            max_retry_after: plan.max_retry_after
                + Duration::from_secs(u64::from(bug == Some(Bug::HeedsTooLong))),
            max_message_age: plan.max_message_age,
        },
        lookup: Lookup::Off,
        callbacks: Callbacks {
            post: Arc::new(client.clone()),
            attempts: plan.callback_attempts,
            max_body: 0,
            room: Room::of(1 << 30),
        },
        paused: if bug == Some(Bug::KnowsNoPause) {
            Paused::default()
        } else {
            client.shared.paused[queue].clone()
        },
        gate: gate.clone(),
        news: News::default(),
        tracer: Tracer::default(),
        chance: chance(broker, queue),
        metrics: metrics.clone(),
        name: format!("w{}", client.worker),
        audit: Audit::default(),
        calls: if bug == Some(Bug::HearsNothing) { Calls::default() } else { client.shared.calls() },
        cut: broker.running.cut.clone(),
    })
}

/// Dice that the seed governs, and the wall clock of this world.
fn chance(Mutant { client, bug, .. }: &Mutant, queue: usize) -> Chance {
    let Shared { plan, queues, .. } = &client.shared;
    let number = (client.worker * queues.len() + queue) as u64;
    let dice = Mutex::new(Dice::seed_from_u64(plan.seed.rotate_left(16) ^ number));
    let ahead = Duration::from_secs(if *bug == Some(Bug::AheadOfWallTime) { 3_600 } else { 0 });
    let shared = client.shared.clone();
    Chance {
        now: Box::new(move || shared.wall_time() + ahead),
        draw: Box::new(move || dice.lock().unwrap().random()),
    }
}

/// Metrics that nobody sees.
fn uncounted() -> Metrics {
    Registry::new("ns").and_then(|registry| registry.queue("q")).unwrap()
}
