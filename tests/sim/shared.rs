//! What all parts of one simulated world share, behind one lock that nobody holds over an await.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use queue_worker::{broker::Record, names::Names};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{sync::Notify, time::Instant};

use crate::{
    ledger::Ledger,
    plan::{Faults, Plan, Step, any},
    server::{Server, Taken},
};

#[derive(Debug, Clone)]
pub struct Shared {
    pub plan: Arc<Plan>,
    pub names: Names,
    state: Arc<Mutex<State>>,
    /// Wakes in the order of waiting; a watch channel would throw dice of its own.
    pub changed: Arc<Notify>,
}

#[derive(Debug)]
pub struct State {
    pub server: Server,
    pub ledger: Ledger,
    pub dice: StdRng,
    pub faults: Faults,
    pub up: bool,
    /// How often it went away.
    pub outages: u64,
    /// The workers of which something went wrong that is not their doing.
    pub blemished: BTreeSet<usize>,
    plan: Arc<Plan>,
    names: Names,
}

impl Shared {
    pub fn new(plan: Plan) -> Self {
        let (plan, names) = (Arc::new(plan), Names::new("q", "q"));
        let state = State {
            server: Server::new(&names, plan.ack_wait),
            ledger: Ledger::new(),
            dice: StdRng::seed_from_u64(!plan.seed),
            faults: plan.faults,
            up: true,
            outages: 0,
            blemished: BTreeSet::new(),
            plan: plan.clone(),
            names: names.clone(),
        };
        Self { plan, names, state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Tells everybody that waits at the broker to look again.
    pub fn stir(&self) {
        self.changed.notify_waiters();
    }

    /// A gateway queues an invocation.
    pub fn queue(&self, key: &str, script: Vec<Step>, callback: Option<Vec<Step>>) {
        let url = if callback.is_some() { r#","CallbackUrl":{"Scheme":"http","Host":"h","Path":"/"}"# } else { "" };
        let payload = format!(r#"{{"Header":{{"X-Call-Id":["{key}"]}},"Function":"f.ns","Body":"aGVsbG8="{url}}}"#);
        let (stream, subject) = (self.names.stream.clone(), self.names.queue.clone());
        let record = Record { stream, subject, id: key.to_owned(), headers: async_nats::HeaderMap::new(), payload: payload.into() };
        let state = &mut *self.state();
        state.ledger.announce(key, &record.payload, script, callback);
        state.publish(&record);
        self.stir();
    }
}

impl State {
    pub fn publish(&mut self, record: &Record) {
        let late = any(&mut self.dice, Duration::from_millis(250));
        let now = Instant::now();
        self.server.advance(now);
        if let Some((sequence, stored)) = self.server.publish(record, late, now) {
            self.ledger.stored(&stored, sequence, &self.plan);
        }
    }

    /// Delivers the next message of a consumer; says whether it arrives.
    pub fn take(&mut self, consumer: usize, holder: usize) -> Option<(Taken, bool)> {
        let heard = !self.dice.random_ratio(self.faults.undelivered, 1000);
        let late = any(&mut self.dice, self.faults.late_redelivery);
        let now = Instant::now();
        let taken = self.server.take(consumer, holder, heard, late, now)?;
        let (id, hop) = taken.message.identity(taken.sequence);
        let next = format!("{id}.{}", hop + 1);
        let last = self.server.last(&self.names.retries, &format!("q-retries.*.f%2Ens.{id}.*"));
        let settled = last.and_then(|subject| Names::hop_of(&subject)).is_some_and(|last| last > hop)
            || self.server.taken_as(&self.names.retries, &next, now).is_some()
            || [".dead", ".callback.dead"]
                .iter()
                .filter(|end| !taken.message.is_callback() || **end == ".callback.dead")
                .any(|end| self.server.taken_as(&self.names.dead, &format!("{id}{end}"), now).is_some());
        self.ledger.delivered(&taken, settled, holder, heard);
        let (held, clean) = (self.server.held_by(holder), !self.blemished.contains(&holder));
        let most = self.plan.max_inflight + 2;
        self.ledger.require(!clean || held <= most, || format!("worker {holder} holds {held} deliveries"));
        Some((taken, heard))
    }
}
