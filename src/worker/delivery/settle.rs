//! Carries dispositions out, and decides nothing. The only file that acknowledges: first the consequence is
//! durable, then the message is let go.
//!
//! ```text
//!  Delivery ──make_durable──▶ Durable ──let_go──▶ Settled
//!              │                 └──into_callback──▶ Delivery, its callback's
//!              └─ fits nowhere: refuse, or give up ──▶ Settled
//! ```

mod ask;
mod found;
mod newest;
mod store;

use std::{
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use self::store::{NotStored, call_id, function, said};
pub use self::{found::Successor, newest::Newest};
use crate::{
    broker::{
        seam::{Ack, Broker},
        standby::Standby,
    },
    message::{names::Names, timer::Timer},
    observe::{log, metrics::Metrics, trace::Fate},
    retry::disposition::{Again, Disposition, Unstorable},
    worker::delivery::{Delivery, lease::LeaseLost},
};

/// The executor of one queue's dispositions.
#[derive(Debug, Clone)]
pub struct Settle<B> {
    /// The broker.
    pub broker: B,
    /// The queue's names.
    pub names: Names,
    /// The timer that brings retries back.
    pub timer: Timer,
    /// Whether the confirmation of a completed call's acknowledgement is insisted on.
    pub confirm_acks: bool,
    /// Whether there are dead letters. Where there are none, messages that are given up are dropped and
    /// counted.
    pub dead_letters: bool,
    /// Counts what was done.
    pub metrics: Metrics,
    /// The settlements that wait for the broker.
    pub standby: Standby,
    /// The looks for what is newest among what follows from messages.
    pub newest: Newest,
}

/// A delivery is settled: the proof of it, which only settling makes. A path that ends without settling has
/// none to return:
///
/// ```compile_fail,E0423
/// # use queue_worker::{broker::seam::Broker, retry::disposition::Disposition};
/// # use queue_worker::worker::delivery::{Delivery, lease::LeaseLost, settle::{Settle, Settled}};
/// async fn path<B: Broker>(settle: &Settle<B>, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
///     if delivery.is_suspect() {
///         return Ok(Settled(()));
///     }
///     settle.settle(delivery, Disposition::Complete).await
/// }
/// ```
#[derive(Debug)]
#[must_use = "it is the proof that a delivery is settled"]
pub struct Settled(());

/// A delivery whose consequence is durable, so that it may be let go. Only what is durable can be
/// acknowledged, and not a delivery itself:
///
/// ```compile_fail,E0308
/// # use queue_worker::{broker::seam::Broker, retry::disposition::Disposition};
/// # use queue_worker::worker::delivery::{Delivery, lease::LeaseLost, settle::{Settle, Settled}};
/// async fn path<B: Broker>(settle: &Settle<B>, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
///     settle.let_go(delivery).await
/// }
/// ```
///
/// First comes its consequence:
///
/// ```no_run
/// # use std::ops::ControlFlow;
/// # use queue_worker::{broker::seam::Broker, retry::disposition::Disposition};
/// # use queue_worker::worker::delivery::{Delivery, lease::LeaseLost, settle::{Settle, Settled}};
/// async fn path<B: Broker>(settle: &Settle<B>, delivery: Delivery<B>) -> Result<Settled, LeaseLost> {
///     match settle.make_durable(delivery, Disposition::Complete).await? {
///         ControlFlow::Continue(durable) => settle.let_go(durable).await,
///         ControlFlow::Break(settled) => Ok(settled),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "it is not let go yet"]
pub struct Durable<B> {
    delivery: Delivery<B>,
    /// Whether the confirmation of its acknowledgement is insisted on.
    confirmed: bool,
    /// The next try of a callback, and when it is due.
    scheduled: Option<(Again, SystemTime)>,
}

impl<B: Broker> Settle<B> {
    /// Settles a delivery. Only here, and where these two steps are taken one by one, a message is let go.
    ///
    /// # Errors
    /// [`LeaseLost`]: the broker delivers it again, and its successor is found then.
    pub async fn settle(
        &self,
        delivery: Delivery<B>,
        disposition: Disposition,
    ) -> Result<Settled, LeaseLost> {
        match self.make_durable(delivery, disposition).await? {
            ControlFlow::Continue(durable) => self.let_go(durable).await,
            ControlFlow::Break(settled) => Ok(settled),
        }
    }

    /// Makes the consequence of a delivery durable. Settles it where that cannot be stored.
    ///
    /// # Errors
    /// [`LeaseLost`]: the broker delivers it again.
    pub async fn make_durable(
        &self,
        delivery: Delivery<B>,
        disposition: Disposition,
    ) -> Result<ControlFlow<Settled, Durable<B>>, LeaseLost> {
        let (stored, unstorable) = match disposition {
            Disposition::Complete => {
                delivery.trace.ends(Fate::Completed);
                let confirmed = self.confirm_acks;
                return Ok(ControlFlow::Continue(Durable { confirmed, ..Durable::of(delivery) }));
            }
            Disposition::Delivered => {
                delivery.trace.ends(Fate::Delivered);
                return Ok(ControlFlow::Continue(Durable::of(delivery)));
            }
            Disposition::Dropped(cause) => {
                self.drop(&delivery, cause);
                return Ok(ControlFlow::Continue(Durable::of(delivery)));
            }
            Disposition::CallAgain(again, reason) => {
                let parked = Box::pin(self.call_again(&delivery, &again, reason)).await;
                (parked.map(|()| None), again.unstorable)
            }
            Disposition::PostAgain(again) => {
                delivery.trace.ends(Fate::Parked);
                let parked = Box::pin(self.park(&delivery, again.wait)).await;
                let unstorable = again.unstorable;
                (parked.map(|due| Some((again, due))), unstorable)
            }
            Disposition::HandBack { wait, unstorable } => {
                delivery.trace.ends(Fate::HandedBack);
                (Box::pin(self.park(&delivery, wait)).await.map(|_| None), unstorable)
            }
            Disposition::Hold(unstorable) => {
                delivery.trace.ends(Fate::HandedBack);
                (Box::pin(self.put_aside(&delivery)).await.map(|()| None), unstorable)
            }
            Disposition::Dead { cause, unstorable } => {
                (Box::pin(self.bury(&delivery, cause)).await.map(|()| None), unstorable)
            }
        };
        match stored {
            Ok(scheduled) => Ok(ControlFlow::Continue(Durable { scheduled, ..Durable::of(delivery) })),
            Err(NotStored::LeaseLost(lost)) => Err(lost),
            Err(NotStored::TooLarge(_)) => {
                Box::pin(self.unstorable(delivery, unstorable)).await.map(ControlFlow::Break)
            }
        }
    }

    /// Parks a clone that is due at once in the place of what was interrupted. Gives the delivery back where
    /// no clone can be made of it: it is called as it is.
    ///
    /// # Errors
    /// [`LeaseLost`]: the broker delivers it again.
    pub async fn make_again(
        &self,
        delivery: Delivery<B>,
    ) -> Result<ControlFlow<Settled, Delivery<B>>, LeaseLost> {
        delivery.trace.ends(Fate::Interrupted);
        match self.park(&delivery, Duration::ZERO).await {
            Ok(_) => self.let_go(Durable::of(delivery)).await.map(ControlFlow::Break),
            Err(NotStored::LeaseLost(lost)) => Err(lost),
            Err(NotStored::TooLarge(_)) => Ok(ControlFlow::Continue(delivery)),
        }
    }

    /// Takes a delivery whose successor was found as settled before, and not let go yet.
    pub fn settled_before(&self, delivery: Delivery<B>, _: Successor) -> Durable<B> {
        delivery.trace.ends(Fate::Settled);
        Durable::of(delivery)
    }

    /// Lets go of a delivery whose consequence is durable.
    ///
    /// # Errors
    /// [`LeaseLost`]: the broker delivers it again. Its successor is found then; a call that completed has
    /// none, and runs again.
    pub async fn let_go(&self, durable: Durable<B>) -> Result<Settled, LeaseLost> {
        let Durable { delivery, confirmed, scheduled } = durable;
        // Its call is over: another may have its permit while the broker confirms that.
        let sent = || delivery.seat.depart();
        let acknowledged = || self.broker.acknowledge(&delivery.lease.reply, Ack::Done, confirmed, &sent);
        // In a box: it would stand in the future of each call while that runs.
        Box::pin(self.ask(&delivery, acknowledged)).await?;
        if let Some((again, due)) = scheduled {
            let attempts = delivery.message.envelope.attempts;
            said(&again, attempts, due, |next| {
                log::callback_scheduled(call_id(&delivery), function(&delivery), next)
            });
            self.metrics.callback("retried");
        }
        Ok(Settled(()))
    }

    /// Settles a delivery whose consequence fits into no message.
    async fn unstorable(&self, delivery: Delivery<B>, unstorable: Unstorable) -> Result<Settled, LeaseLost> {
        match unstorable {
            Unstorable::Stays(wait) => self.refuse(delivery, wait).await,
            Unstorable::LetGo => {
                tracing::error!(
                    callId = call_id(&delivery),
                    function = function(&delivery),
                    "Unstorable: the callback fits into no message of the broker's max_payload and is given \
                        up"
                );
                self.metrics.unstorable();
                self.let_go(Durable::of(delivery)).await
            }
        }
    }

    /// Leaves a message in its stream for `wait`.
    async fn refuse(&self, delivery: Delivery<B>, wait: Duration) -> Result<Settled, LeaseLost> {
        tracing::error!(
            callId = call_id(&delivery),
            function = function(&delivery),
            maxPayload = self.broker.max_payload(),
            "Unstorable: what follows from this message exceeds the broker's max_payload; it stays in its \
                stream and is tried again"
        );
        self.metrics.unstorable();
        delivery.trace.ends(Fate::Unstorable);
        if !delivery.lease.holds() {
            return Err(LeaseLost);
        }
        // Said once: whoever holds the message after `wait` would lose it by the same word, said again. Where
        // it was not heard the message comes back when the lease ends.
        let said = self.broker.acknowledge(&delivery.lease.reply, Ack::Later(wait), true, &|| ()).await;
        said.unwrap_or_else(
            |error| tracing::debug!(%error, "that a message stays in its stream is not confirmed"),
        );
        Ok(Settled(()))
    }
}

impl<B: Broker> Durable<B> {
    fn of(delivery: Delivery<B>) -> Self {
        Self { delivery, confirmed: true, scheduled: None }
    }

    /// The delivery.
    pub fn delivery(&self) -> &Delivery<B> {
        &self.delivery
    }

    /// The delivery as its callback's, to be settled as such: same identity, same generation, same trace.
    /// What is parked or buried of it is what whoever gets the message again will find.
    pub fn into_callback(self) -> Delivery<B> {
        let mut delivery = self.delivery;
        *delivery.message = delivery.message.callback();
        delivery.stored = false;
        delivery.trace.carry(&mut delivery.message.envelope.carried);
        delivery
    }
}
