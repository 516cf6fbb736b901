//! One worker's client of the world: latency, faults, the failpoints at its steps, and its end.

use std::{future::pending, sync::Arc, time::Duration};

use queue_worker::{
    broker::{clock::BrokerClock, seam::BrokerError},
    message::timer::Timer,
};
use rand::RngExt;
use tokio::time::{Instant, advance, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    failpoint::Fault,
    plan::any,
    shared::{Shared, State},
};

/// How long a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// The client of a worker.
#[derive(Debug, Clone)]
pub struct Client {
    pub shared: Shared,
    pub worker: usize,
    /// A crashed worker does nothing any more: whatever it asks for is neither done nor answered.
    pub crashed: CancellationToken,
    /// What it knows of the broker's time.
    pub clock: Arc<BrokerClock>,
    /// What it parks retries with.
    pub timer: Timer,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Lost,
    Unanswered,
    Late,
}

pub fn unavailable() -> BrokerError {
    BrokerError::Unavailable("simulated".to_owned())
}

impl Client {
    /// Lets time pass, for ever after a crash.
    pub async fn pause(&self, time: Duration) {
        self.until(Instant::now() + time).await;
    }

    pub async fn until(&self, time: Instant) {
        sleep_until(time).await;
        self.alive().await;
    }

    /// Returns at once, or never after a crash.
    pub async fn alive(&self) {
        if self.crashed.is_cancelled() {
            pending().await
        }
    }

    /// The worker dies here and now.
    pub async fn dies<T>(&self) -> T {
        self.shared.state().ledger.note(|| format!("worker {} dies", self.worker));
        self.shared.state().blemished.insert(self.worker);
        self.crashed.cancel();
        let _ = self.shared.faulted.send((self.worker, Fault::CrashAfter));
        pending().await
    }

    /// The worker takes a step: the fault of a failpoint there, if it has not happened yet.
    pub async fn step(&self, what: &'static str) -> Option<Fault> {
        self.alive().await;
        let fault = {
            let state = &mut *self.shared.state();
            let steps = state.steps.entry(self.worker).or_default();
            steps.push(what);
            let at = steps.len() - 1;
            let fault = self
                .shared
                .plan
                .failpoints
                .iter()
                .find(|failpoint| (failpoint.worker, failpoint.at) == (self.worker, at))?
                .fault;
            state
                .ledger
                .note(|| format!("{fault:?} befalls worker {} at its step {at}, {what}", self.worker));
            if fault.grace().is_none() && fault != Fault::GatewayDies {
                state.blemished.insert(self.worker);
            }
            fault
        };
        match fault {
            Fault::CrashBefore => self.dies().await,
            Fault::PauseBefore => advance(self.shared.plan.ack_wait * 3).await,
            Fault::Drain | Fault::DrainNow | Fault::GatewayDies => {
                let _ = self.shared.faulted.send((self.worker, fault));
                // Others learn of it before the worker goes on.
                tokio::task::yield_now().await;
            }
            other => return Some(other),
        }
        None
    }

    /// The same once the step took effect.
    pub async fn stepped(&self, fault: Option<Fault>) {
        match fault {
            Some(Fault::CrashAfter) => self.dies().await,
            Some(Fault::PauseAfter) => advance(self.shared.plan.ack_wait * 3).await,
            Some(Fault::BrokerKilled) => {
                self.shared.broker_goes(true);
                let _ = self.shared.faulted.send((self.worker, Fault::BrokerKilled));
            }
            _ => {}
        }
    }

    fn fate(&self, fault: Option<Fault>) -> (Duration, Fate) {
        let state = &mut *self.shared.state();
        let faults = state.fault_rates;
        let latency = any(&mut state.dice, Duration::from_millis(3));
        let fate = match fault {
            Some(Fault::Lost) => Fate::Lost,
            Some(Fault::Unanswered) => Fate::Unanswered,
            Some(Fault::Late) => Fate::Late,
            _ if faults.is_none() => Fate::Fine,
            _ => match state.dice.random_range(0..1000) {
                n if n < faults.lost => Fate::Lost,
                n if n < faults.lost + faults.unanswered => Fate::Unanswered,
                n if n < faults.lost + faults.unanswered + faults.late => Fate::Late,
                _ => Fate::Fine,
            },
        };
        if fate != Fate::Fine || !state.up {
            state.blemished.insert(self.worker);
        }
        (latency, fate)
    }

    /// Carries a request out, as its fate will have it.
    pub async fn request<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, BrokerError> {
        let fault = self.step(what).await;
        let (latency, fate) = self.fate(fault);
        self.pause(latency).await;
        if !self.shared.state().up {
            return Err(unavailable());
        }
        if fate == Fate::Late {
            let (shared, late) = (self.shared.clone(), any(&mut self.shared.state().dice, PATIENCE * 2));
            tokio::spawn(async move {
                sleep(late).await;
                let state = &mut *shared.state();
                if state.up {
                    state.late = true;
                    effect(state);
                    state.late = false;
                }
            });
            self.pause(PATIENCE).await;
            return Err(unavailable());
        }
        if fate == Fate::Lost {
            self.pause(PATIENCE).await;
            return Err(unavailable());
        }
        let outages = self.shared.state().outages;
        let answer = effect(&mut self.shared.state());
        self.stepped(fault).await;
        self.pause(if fate == Fate::Unanswered { PATIENCE } else { latency }).await;
        let cut = self.shared.state().outages != outages;
        if cut || fate == Fate::Unanswered { Err(unavailable()) } else { Ok(answer) }
    }

    /// The same, sent and not waited for: it overtakes nothing, and nobody learns of its loss.
    pub async fn send(&self, what: &'static str, effect: impl FnOnce(&mut State)) -> Result<(), BrokerError> {
        let fault = self.step(what).await;
        let (_, fate) = self.fate(fault);
        if !self.shared.state().up {
            return Err(unavailable());
        }
        if matches!(fate, Fate::Fine | Fate::Unanswered) {
            effect(&mut self.shared.state());
            self.stepped(fault).await;
        }
        Ok(())
    }
}
