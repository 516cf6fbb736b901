//! What all parts of one simulated world share, behind one lock that nobody holds over an await.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use queue_worker::{
    broker::{pauses::Paused, seam::BrokerError},
    flow::calls::{Calls, Mark},
    message::{
        call::InHand,
        names::{Id, Names},
        pause::{Pause, Pauses},
        record::Record,
    },
    observe::metrics::Registry,
};
use rand::{RngExt, SeedableRng};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    consumer::{Consumer, Role, Taken},
    failpoint::Fault,
    hostile::{self, headers, payload},
    ledger::{Ledger, Successor},
    plan::{Dice, FaultRates, Message, Plan, any},
    server::{Server, size},
};

#[derive(Debug, Clone)]
pub struct Shared {
    pub plan: Arc<Plan>,
    pub queues: Arc<[Names]>,
    /// What is paused of each of them, as all workers know it.
    pub paused: Arc<[Paused]>,
    /// Wakes who waits for a pause or its end.
    pub pausing: Arc<Notify>,
    began: Instant,
    state: Arc<Mutex<State>>,
    /// Wakes who waits for all to be over.
    pub emptied: Arc<Notify>,
    /// What befalls a worker at a step of its own, for the world to act on.
    pub faulted: mpsc::UnboundedSender<(usize, Fault)>,
}

#[derive(Debug)]
pub struct State {
    pub server: Server,
    pub ledger: Ledger,
    pub dice: Dice,
    /// For what the plans of the first seeds did not know, so that these meet the same faults as ever.
    pub spare_dice: Dice,
    pub fault_rates: FaultRates,
    pub up: bool,
    /// Whether something is done just now that nobody waits for any more.
    pub late: bool,
    /// How often it went away.
    pub outages: u64,
    /// Cancelled when the gateway dies; another when it is back.
    pub gateway: CancellationToken,
    /// The workers of which something went wrong that is not their doing.
    pub blemished: BTreeSet<usize>,
    /// The calls of all workers there ever were, and what was cancelled of them.
    pub calls: Vec<Calls<InHand>>,
    pub marks: Vec<(String, Mark)>,
    /// The steps that each worker took.
    pub steps: BTreeMap<usize, Vec<&'static str>>,
    plan: Arc<Plan>,
    queues: Arc<[Names]>,
}

impl Shared {
    pub fn new(
        plan: Plan,
        registry: Registry,
        verbose: bool,
    ) -> (Self, mpsc::UnboundedReceiver<(usize, Fault)>) {
        let queues: Arc<[Names]> =
            (0..plan.queues).map(|n| format!("q{n}")).map(|name| Names::new(&name, &name)).collect();
        let plan = Arc::new(plan);
        let state = State {
            server: Server::new(&queues, plan.ack_wait, plan.level_room, plan.max_payload),
            ledger: Ledger::new(plan.clone(), registry, verbose),
            dice: Dice::seed_from_u64(!plan.seed),
            spare_dice: Dice::seed_from_u64(plan.seed.rotate_left(32)),
            fault_rates: plan.fault_rates,
            up: true,
            late: false,
            outages: 0,
            gateway: CancellationToken::new(),
            blemished: BTreeSet::new(),
            calls: Vec::new(),
            marks: Vec::new(),
            steps: BTreeMap::new(),
            plan: plan.clone(),
            queues: queues.clone(),
        };
        let (faulted, faults) = mpsc::unbounded_channel();
        (
            Self {
                plan,
                pausing: Arc::default(),
                paused: queues.iter().map(|_| Paused::default()).collect(),
                queues,
                began: Instant::now(),
                state: Arc::new(Mutex::new(state)),
                emptied: Arc::default(),
                faulted,
            },
            faults,
        )
    }

    /// The wall time, which nobody sets. It begins between two seconds.
    pub fn wall_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_700) + self.began.elapsed()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A gateway queues an invocation, or somebody what is none.
    pub fn queue(&self, key: &str, message: Message) {
        let names = &self.queues[message.queue];
        let (stream, subject) = (names.stream.clone(), names.queue.clone());
        let mut record = Record {
            stream,
            subject,
            id: key.to_owned(),
            headers: headers(key, &message, self.plan.input),
            payload: Bytes::new(),
        };
        record.payload = payload(key, &message, &self.plan, 0);
        if let Some(room) = message.room {
            let pad = self.plan.max_payload.saturating_sub(room + size(&record));
            record.payload = payload(key, &message, &self.plan, pad);
        }
        let state = &mut *self.state();
        state.ledger.announce(key, &record.payload, message);
        state.publish(&record).unwrap();
    }

    /// The function is paused on all queues, or resumed.
    pub fn pause(&self, paused: bool) {
        let function = (self.plan.function.to_owned(), Pause::default());
        let functions = paused.then_some(function).into_iter().collect();
        for queue in self.paused.iter() {
            queue.learn(Pauses { queue: None, functions: BTreeMap::clone(&functions) });
        }
        self.pausing.notify_waiters();
        self.state().ledger.pauses(paused);
    }

    /// Somebody cancels a call, and every worker hears of it.
    pub fn cancel(&self, key: &str) {
        let state = &mut *self.state();
        let mark = Mark { at: state.server.wall(Instant::now()), why: "cancelled".to_owned() };
        if !state.ledger.cancelled(key) {
            return;
        }
        state.calls.iter().for_each(|calls| calls.mark(key, mark.clone()));
        state.marks.push((key.to_owned(), mark));
    }

    /// The calls of a worker that starts: it knows what was cancelled.
    pub fn calls(&self) -> Calls<InHand> {
        let (state, calls) = (&mut *self.state(), Calls::default());
        state.marks.iter().for_each(|(key, mark)| calls.mark(key, mark.clone()));
        state.calls.push(calls.clone());
        calls
    }

    /// The broker is gone; killed, it has forgotten some when it is back.
    pub fn broker_goes(&self, killed: bool) {
        let state = &mut *self.state();
        (state.up, state.outages) = (false, state.outages + 1);
        state.blemished.extend(state.steps.keys());
        if killed {
            let dice = &mut state.dice;
            let twice = state.server.killed(|| dice.random(), Instant::now());
            state.ledger.broker_killed(&twice);
        }
        state.stir();
    }

    pub fn broker_is_back(&self) {
        let state = &mut *self.state();
        state.up = true;
        state.ledger.note(|| "the broker is back".to_owned());
        state.stir();
    }
}

impl State {
    /// Tells everybody that waits at the broker to look again.
    pub fn stir(&self) {
        self.server.consumers.iter().for_each(|consumer| consumer.changed.notify_waiters());
    }

    pub fn publish(&mut self, record: &Record) -> Result<(), BrokerError> {
        let late = any(&mut self.dice, Duration::from_millis(250));
        let fires = self.plan.unfired == 0 || !self.spare_dice.random_ratio(self.plan.unfired, 1000);
        let damaged = hostile::damaged(record, self.fault_rates.damaged, &mut self.spare_dice);
        if let Some((sequence, stored)) =
            self.server.publish(damaged.as_ref().unwrap_or(record), fires.then_some(late), Instant::now())?
        {
            if damaged.is_some() {
                self.ledger.damaged(record);
            }
            self.ledger.stored(&stored, sequence);
            if self.late {
                self.ledger.stored_late(&stored);
            }
        }
        Ok(())
    }

    pub fn place(&mut self, record: &Record) -> Result<(), BrokerError> {
        if let Some((sequence, stored)) = self.server.place(record, Instant::now())? {
            self.ledger.stored(&stored, sequence);
        }
        Ok(())
    }

    pub fn fire(&mut self, record: &Record, holder: &str, sequence: u64) -> Result<bool, BrokerError> {
        let fired = self.server.fire(record, holder, sequence, Instant::now())?;
        if let Some((sequence, stored)) = &fired {
            self.ledger.fired();
            self.ledger.stored(stored, *sequence);
        }
        Ok(fired.is_some())
    }

    /// A worker leaves a message where it is, to look at it again later.
    pub fn refused(&mut self, consumer: usize, sequence: u64) {
        let Consumer { role, stream, .. } = &self.server.consumers[consumer];
        if let Some((_, stored)) = self
            .server
            .next(stream, ">", sequence)
            .filter(|(found, _)| *found == sequence && *role != Role::Level)
        {
            self.ledger.refused(&stored, self.late, self.server.max_payload);
        }
    }

    /// Delivers the next message of a consumer; says whether it arrives.
    pub fn take(&mut self, consumer: usize, holder: usize) -> Option<(Taken, bool)> {
        let heard =
            self.fault_rates.undelivered == 0 || !self.dice.random_ratio(self.fault_rates.undelivered, 1000);
        let late = any(&mut self.dice, self.fault_rates.late_redelivery);
        let taken = self.server.take(consumer, holder, heard, late, Instant::now())?;
        let (role, queue) = (self.server.consumers[consumer].role, self.server.consumers[consumer].queue);
        let successor = self.successor(&taken, queue);
        self.ledger.delivered(&taken, role, &successor, holder, heard);
        if role != Role::Level {
            let (held, most) = (self.server.kept_by(holder), self.plan.most_held());
            let clean = !self.blemished.contains(&holder);
            self.ledger.came_ahead(clean && held > most);
            self.ledger.require(!clean || held <= most + self.plan.most_ahead(), || {
                format!("worker {holder} holds {held} deliveries")
            });
        }
        Some((taken, heard))
    }

    /// What a worker finds of these ids, when it looks for what follows from a message.
    pub fn look(&mut self, stream: &str, ids: &[String]) -> Vec<Option<u64>> {
        let now = Instant::now();
        let taken: Vec<_> = ids.iter().map(|id| self.server.taken_as(stream, id, now)).collect();
        let last_look = stream.ends_with("-dead") || !self.plan.dead_letters;
        if last_look && taken.iter().all(Option::is_none) {
            ids.iter().for_each(|id| self.ledger.looked_in_vain(id));
        }
        taken
    }

    /// What follows from a message, and whether it can be found.
    fn successor(&self, Taken { message, sequence, .. }: &Taken, queue: usize) -> Successor {
        let (names, now, generation) = (&self.queues[queue], Instant::now(), message.generation());
        let known = message
            .told(queue_worker::message::names::ORIGINAL_ID)
            .and_then(|id| id.rsplit_once(':'))
            .map(|(_, id)| id.to_owned());
        let id = known.unwrap_or_else(|| Id::new(*sequence, message.stored).to_string());
        let last = self.server.last(&names.retries, &format!("{}-retries.*.*.{id}.*", names.queue));
        let ends: &[&str] =
            if message.is_callback() { &[".callback.dead"] } else { &[".dead", ".callback.dead"] };
        let successor = format!("{id}.{}", generation.saturating_add(1));
        let found = last
            .and_then(|subject| Names::generation_of(&subject))
            .is_some_and(|last| last > generation)
            || self.server.taken_as(&names.retries, &successor, now).is_some()
            || ends.iter().any(|end| self.server.taken_as(&names.dead, &format!("{id}{end}"), now).is_some());
        Successor { id: successor, found }
    }
}
