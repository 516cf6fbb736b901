//! A consumer of the broker in memory, as one worker pulls from it.

use std::{collections::VecDeque, time::Duration};

use queue_worker::{
    broker::{
        consumer::{Doubt, Doubtful},
        pulled::Pulled,
        seam::{Ask, BrokerError, Source},
    },
    message::arrival::Arrival,
};
use rand::RngExt;
use tokio::time::{Instant, timeout};

use crate::{
    client::{Client, unavailable},
    consumer::Role,
    plan::any,
    shared::{Shared, State},
};

/// One consumer, as one worker pulls from it.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    consumer: usize,
    inbox: VecDeque<(Instant, Pulled)>,
    /// When deliveries were asked for that may still come, and how many.
    asked: VecDeque<(Instant, usize)>,
    /// Deliveries that the requests may still bring.
    open: usize,
    /// Whether several requests are open.
    overlap: bool,
    /// When the request ends without; it does at once where it only asks for what is there.
    expires: Option<Instant>,
    outages: u64,
    /// Deliveries that may have been lost with a connection.
    lost: usize,
    doubt: Doubt,
    /// Whether no first delivery is doubted: a mutation.
    pub trusts: bool,
    /// Whether a broker that was killed is taken for the same: a mutation.
    pub knows_one_broker: bool,
    /// Whether the messages after the end are dropped: a mutation.
    pub drops: bool,
}

impl Subscription {
    pub fn new(client: Client, consumer: usize) -> Self {
        Self {
            client,
            consumer,
            inbox: VecDeque::new(),
            asked: VecDeque::new(),
            overlap: false,
            open: 0,
            expires: None,
            outages: 0,
            lost: 0,
            // Before the first one no worker had a delivery.
            doubt: Doubt::of(Some(1)),
            trusts: false,
            knows_one_broker: false,
            drops: false,
        }
    }

    /// Another one of the same consumer.
    pub fn again(&self) -> Self {
        let Self { trusts, knows_one_broker, drops, .. } = *self;
        Self { trusts, knows_one_broker, drops, ..Self::new(self.client.clone(), self.consumer) }
    }

    /// Lets the broker answer the request as far as it can now.
    fn fill(&mut self) {
        let state = &mut *self.client.shared.state();
        while self.open > 0 && state.up {
            let Some((taken, heard)) = state.take(self.consumer, self.client.worker) else { return };
            self.open -= 1;
            let asked = brought(&mut self.asked);
            if !heard {
                state.blemished.insert(self.client.worker);
                continue;
            }
            let ready = Instant::now() + any(&mut state.dice, Duration::from_millis(3));
            let doubtful = self.doubt.delivered(taken.count, state.outages + 1);
            let first = self.trusts && taken.count == 1;
            let (record, consumer) = (taken.message.record, &state.server.consumers[self.consumer]);
            self.inbox.push_back((
                ready,
                Pulled {
                    arrival: Arrival {
                        subject: record.subject,
                        headers: record.headers,
                        payload: record.payload,
                        stream: consumer.stream.as_str().into(),
                        sequence: taken.sequence,
                        stored: taken.message.stored,
                    },
                    delivered: taken.count,
                    pending: taken.waiting,
                    reply: format!("{} {}", self.consumer, taken.sequence),
                    asked,
                    ack_wait: consumer.ack_wait.into(),
                    doubtful: if first { Doubtful::No } else { doubtful },
                },
            ));
        }
    }

    /// Looks at the broker, for what it cannot have forgotten; a promoter has no need to.
    async fn look(&mut self) {
        let Shared { plan, queues, .. } = &self.client.shared;
        let (role, queue) = {
            let consumer = &self.client.shared.state().server.consumers[self.consumer];
            (consumer.role, queues[consumer.queue].stream.clone())
        };
        if role == Role::Level || !self.doubt.wants_look() {
            return;
        }
        // Of a cluster nothing is proved.
        let (proves, consumer) = (plan.seed % 4 != 3, self.consumer);
        let effect =
            move |state: &mut State| proves.then(|| state.server.horizon(&queue, consumer, Instant::now()));
        let looked = timeout(Duration::from_secs(1), self.client.request("look at the queue", effect));
        if let Ok(Ok(horizon)) = looked.await {
            self.doubt.looked(horizon);
        }
    }

    fn none_open(&mut self) {
        self.open = 0;
        self.asked.clear();
    }

    /// Whether the connection broke since the request.
    fn broke(&mut self) -> bool {
        let outages = self.client.shared.state().outages;
        let broke = self.outages != outages;
        if broke {
            self.lost += self.open + self.inbox.len();
            if self.overlap && self.to_come() > 0 {
                self.client.shared.state().ledger.requests_overlap(true);
            }
            self.inbox.clear();
            self.none_open();
        }
        broke
    }
}

impl Source for Subscription {
    async fn ask(&mut self, ask: Ask) -> Result<usize, BrokerError> {
        let wait = Duration::from_secs(30).min(self.client.shared.plan.ack_wait / 4);
        let now = Instant::now();
        self.broke();
        let (batch, expires) = match ask {
            Ask::One => (1, Some(now + wait)),
            Ask::UpTo(most) => (most, None),
            Ask::AsTheyCome(most) => (most, Some(now + Duration::from_secs(30))),
        };
        self.expires = expires;
        self.overlap = self.to_come() > 0;
        if self.overlap {
            self.client.shared.state().ledger.requests_overlap(false);
        }
        self.outages = self.client.shared.state().outages;
        // The connection is as old as the last outage, and a worker's first one is its first.
        let lives = if self.knows_one_broker { 1 } else { self.client.shared.state().server.lives };
        self.doubt.connected(self.outages + 1, lives);
        self.look().await;
        let asked = Instant::now();
        self.client.request("ask", |_| ()).await?;
        self.open += batch;
        self.asked.push_back((asked, batch));
        self.fill();
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Option<Pulled>, BrokerError> {
        let changed = self.client.shared.state().server.consumers[self.consumer].changed.clone();
        loop {
            let mut changed = std::pin::pin!(changed.notified());
            changed.as_mut().enable();
            self.client.alive().await;
            if self.broke() {
                return Err(unavailable());
            }
            self.fill();
            if let Some((ready, _)) = self.inbox.front() {
                self.client.until(*ready).await;
                let fault = self.client.step("take").await;
                if self.broke() {
                    return Err(unavailable());
                }
                self.client.stepped(fault).await;
                return Ok(self.inbox.pop_front().map(|(_, pulled)| pulled));
            }
            let Some(expires) = self.expires.filter(|expires| self.open > 0 && Instant::now() < *expires)
            else {
                self.none_open();
                return Ok(None);
            };
            let event = self.client.shared.state().server.next_event(self.consumer, Instant::now());
            tokio::select! {
                biased;
                () = changed => {}
                () = self.client.until(event.map_or(expires, |event| event.min(expires))) => {}
            }
        }
    }

    fn to_come(&self) -> usize {
        self.open + self.inbox.len()
    }

    fn has_room(&self) -> bool {
        true
    }

    fn lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    async fn close(&mut self) -> Vec<Pulled> {
        let fault = self.client.step("close").await;
        // The broker may answer the request just before it hears that it is withdrawn.
        if self.client.shared.state().dice.random() {
            self.fill();
        }
        self.none_open();
        self.client.stepped(fault).await;
        self.client.pause(Duration::from_millis(5)).await;
        self.broke();
        let pulled = self.inbox.drain(..).map(|(_, pulled)| pulled);
        if self.drops { Vec::new() } else { pulled.collect() }
    }
}

/// One less is to come of the request whose turn it is. Returns when that was sent.
fn brought(requests: &mut VecDeque<(Instant, usize)>) -> Instant {
    let (asked, left) = requests.pop_front().unwrap();
    if left > 1 {
        requests.push_back((asked, left - 1));
    }
    asked
}
