//! What all parts of one simulated world share, behind one lock that nobody holds over an await.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use queue_worker::{
    broker::Record,
    names::{Id, Names},
};
use rand::{RngExt, SeedableRng};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    consumer::{Role, Taken},
    ledger::Ledger,
    plan::{Dice, Faults, Message, Plan, any},
    server::Server,
    strike::Blow,
};

#[derive(Debug, Clone)]
pub struct Shared {
    pub plan: Arc<Plan>,
    pub queues: Arc<[Names]>,
    state: Arc<Mutex<State>>,
    /// Wakes who waits for all to be over.
    pub emptied: Arc<Notify>,
    /// What befalls a worker at a step of its own, for the world to act on.
    pub struck: mpsc::UnboundedSender<(usize, Blow)>,
}

#[derive(Debug)]
pub struct State {
    pub server: Server,
    pub ledger: Ledger,
    pub dice: Dice,
    pub faults: Faults,
    pub up: bool,
    /// How often it went away.
    pub outages: u64,
    /// Cancelled when the gateway dies; another when it is back.
    pub gateway: CancellationToken,
    /// The workers of which something went wrong that is not their doing.
    pub blemished: BTreeSet<usize>,
    /// The steps that each worker took.
    pub steps: BTreeMap<usize, Vec<&'static str>>,
    plan: Arc<Plan>,
    queues: Arc<[Names]>,
}

impl Shared {
    pub fn new(plan: Plan, verbose: bool) -> (Self, mpsc::UnboundedReceiver<(usize, Blow)>) {
        let queues: Arc<[Names]> = (0..plan.queues).map(|n| format!("q{n}")).map(|name| Names::new(&name, &name)).collect();
        let plan = Arc::new(plan);
        let state = State {
            server: Server::new(&queues, plan.ack_wait, plan.level_room),
            ledger: Ledger::new(plan.clone(), verbose),
            dice: Dice::seed_from_u64(!plan.seed),
            faults: plan.faults,
            up: true,
            outages: 0,
            gateway: CancellationToken::new(),
            blemished: BTreeSet::new(),
            steps: BTreeMap::new(),
            plan: plan.clone(),
            queues: queues.clone(),
        };
        let (struck, blows) = mpsc::unbounded_channel();
        (Self { plan, queues, state: Arc::new(Mutex::new(state)), emptied: Arc::default(), struck }, blows)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A gateway queues an invocation, or somebody what is none.
    pub fn queue(&self, key: &str, message: Message) {
        let url = if message.callback.is_some() { r#","CallbackUrl":{"Scheme":"http","Host":"h","Path":"/"}"# } else { "" };
        let payload = match message.script.as_slice() {
            [] => format!("{key} is no invocation"),
            _ => format!(r#"{{"Header":{{"X-Call-Id":["{key}"]}},"Function":"f.ns","Body":"aGVsbG8="{url}}}"#),
        };
        let names = &self.queues[message.queue];
        let (stream, subject) = (names.stream.clone(), names.queue.clone());
        let record = Record { stream, subject, id: key.to_owned(), headers: async_nats::HeaderMap::new(), payload: payload.into() };
        let state = &mut *self.state();
        state.ledger.announce(key, &record.payload, message);
        state.publish(&record);
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

    pub fn publish(&mut self, record: &Record) {
        let late = any(&mut self.dice, Duration::from_millis(250));
        if let Some((sequence, stored)) = self.server.publish(record, late, Instant::now()) {
            self.ledger.stored(&stored, sequence);
        }
    }

    pub fn place(&mut self, record: &Record) {
        if let Some((sequence, stored)) = self.server.place(record, Instant::now()) {
            self.ledger.stored(&stored, sequence);
        }
    }

    /// Delivers the next message of a consumer; says whether it arrives.
    pub fn take(&mut self, consumer: usize, holder: usize) -> Option<(Taken, bool)> {
        let heard = self.faults.undelivered == 0 || !self.dice.random_ratio(self.faults.undelivered, 1000);
        let late = any(&mut self.dice, self.faults.late_redelivery);
        let taken = self.server.take(consumer, holder, heard, late, Instant::now())?;
        let (role, queue) = (self.server.consumers[consumer].role, self.server.consumers[consumer].queue);
        let settled = taken.again && self.is_settled(&taken, queue);
        self.ledger.delivered(&taken, role, settled, holder, heard);
        if role != Role::Level {
            let (held, most) = (self.server.held_by(holder), self.plan.most_held());
            let clean = !self.blemished.contains(&holder);
            self.ledger.require(!clean || held <= most, || format!("worker {holder} holds {held} deliveries"));
        }
        Some((taken, heard))
    }

    /// Whether what follows from a message can be found.
    fn is_settled(&self, Taken { message, sequence, .. }: &Taken, queue: usize) -> bool {
        let (names, now, hop) = (&self.queues[queue], Instant::now(), message.hop());
        let known = message.header(queue_worker::names::ORIGINAL_ID).and_then(|id| id.rsplit_once(':')).map(|(_, id)| id.to_owned());
        let id = known.unwrap_or_else(|| Id::new(*sequence, message.stored).to_string());
        let last = self.server.last(&names.retries, &format!("{}-retries.*.*.{id}.*", names.queue));
        let ends: &[&str] = if message.is_callback() { &[".callback.dead"] } else { &[".dead", ".callback.dead"] };
        last.and_then(|subject| Names::hop_of(&subject)).is_some_and(|last| last > hop)
            || self.server.taken_as(&names.retries, &format!("{id}.{}", hop + 1), now).is_some()
            || ends.iter().any(|end| self.server.taken_as(&names.dead, &format!("{id}{end}"), now).is_some())
    }
}
