//! One durable pull consumer, asked request by request. The client's own streams prefetch and stall on small
//! batches; a worker wants just what it has permits for.

mod bound;
mod doubt;
mod look;
mod question;
mod requests;
mod wire;

use std::{task::Poll, time::Duration};

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

pub(crate) use bound::Bound;
pub use doubt::{Doubt, Doubtful, Horizon};
use question::{NOW, question};
use requests::{GivenUp, Requests};
pub(crate) use wire::Wire;

use crate::{
    broker::{
        ack_subject::AckSubject,
        connect::Link,
        jetstream::{JetStream, call},
        poison::{Burial, Search},
        pulled::{AckWait, Pulled},
        seam::{Ask, Broker, BrokerError, Source},
    },
    message::arrival::Arrival,
};

/// A request waits at most this long at the broker.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A consumer of the broker's.
#[derive(Debug)]
pub(crate) struct Consumer {
    jetstream: JetStream,
    bound: Bound,
    ack_wait: AckWait,
    link: watch::Receiver<Link>,
    doubt: Doubt,
    /// The queue's stream, by which the doubt goes. None where nobody asks for it.
    queue: Option<String>,
    search: Search,
    /// The requests whose messages are still to come.
    requests: Requests<Subscriber, wire::Share>,
    /// Those that were given up. Messages on their way to them are still taken: a delivery that is dropped
    /// looks to the next worker like a call whose worker died.
    given_up: Vec<GivenUp<Subscriber>>,
    /// Beside how many bytes that are to come there is room for another request: none where the last one
    /// could not ask for as many messages as were wanted.
    beside: Option<usize>,
    /// The largest messages that came since the last request, and since the one before it.
    largest: [usize; 2],
    /// How many messages a request that waits for as many as come asks for: one, and twice as many after each
    /// that was filled, so that those who wait for nothing leave the connection to others.
    pace: usize,
    /// Messages that were still to come when requests were lost.
    lost: usize,
    /// Without a sign by then the requests count as dropped.
    deadline: Instant,
    silence: Duration,
    /// Whether the last request waits for what comes.
    waits: bool,
}

impl Consumer {
    /// The consumer `bound`. Its unreadable messages are buried.
    pub fn new(broker: &JetStream, bound: Bound, burial: Burial) -> Self {
        let link = broker.link();
        let now = Instant::now();
        Self {
            search: Search::new(broker, &bound, burial),
            jetstream: broker.clone(),
            ack_wait: bound.ack_wait(),
            bound,
            link,
            doubt: Doubt::default(),
            queue: None,
            requests: Requests::default(),
            given_up: Vec::new(),
            beside: None,
            largest: [0; 2],
            pace: 1,
            lost: 0,
            deadline: now,
            silence: NOW,
            waits: false,
        }
    }

    /// The same, whose deliveries may have been settled before: they are of the queue with this stream. No
    /// worker had any on the server `new_to`.
    pub fn doubting(self, queue: &str, new_to: Option<u64>) -> Self {
        Self { queue: Some(queue.to_owned()), doubt: Doubt::of(new_to), ..self }
    }

    /// Waits for a connection, and sees to it that the next request has an inbox.
    async fn connected(&mut self) -> Result<(), BrokerError> {
        if self.link.has_changed().unwrap_or(false) {
            self.give_up();
        }
        let link = *self
            .link
            .wait_for(|link| link.up)
            .await
            .map_err(|_| BrokerError::Unavailable("the connection is closed".to_owned()))?;
        self.doubt.connected(link.made, link.lives);
        self.search.connected(&link);
        if !self.requests.has_inbox() {
            let client = self.jetstream.client();
            let inbox = client.new_inbox();
            let messages = client
                .subscribe(inbox.clone())
                .await
                .map_err(|error| BrokerError::Unavailable(error.to_string()))?;
            self.requests.put(inbox, messages);
        }
        Ok(())
    }

    fn give_up(&mut self) {
        let (lost, given_up) = self.requests.give_up();
        self.given_up.extend(given_up);
        self.lost = self.lost.saturating_add(lost);
        let ack_wait = self.ack_wait.now();
        self.given_up.retain(|request| request.asked.elapsed() < ack_wait);
    }

    fn pulled(&mut self, message: Message, asked: Instant) -> Option<Pulled> {
        let reply = message.reply?.into_string();
        let AckSubject { delivered, sequence, stored, pending, .. } = AckSubject::read(&reply)?;
        self.search.passed(sequence);
        Some(Pulled {
            arrival: Arrival {
                subject: message.subject.into_string(),
                headers: message.headers.unwrap_or_default(),
                payload: message.payload,
                stream: self.bound.stream.clone(),
                sequence,
                stored,
            },
            delivered,
            pending,
            reply,
            asked,
            ack_wait: self.ack_wait.clone(),
            doubtful: self.doubt.delivered(delivered, self.link.borrow().made),
        })
    }

    /// Whether a status without a message says that the request is over.
    fn status(&mut self, message: &Message, status: StatusCode) -> Result<bool, BrokerError> {
        let said = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => Ok(false),
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => Ok(true),
            // 409: it brought all its messages, and says how many bytes were left; or the next one is too
            // large for those.
            _ if said.starts_with("Batch Completed") => Ok(false),
            _ if said.starts_with("Message Size Exceeds MaxBytes") => Ok(true),
            other => {
                // It may be another consumer by now, or one that another server leads.
                self.doubt.arises();
                self.give_up();
                Err(BrokerError::Unavailable(format!("{} {said}", other.as_u16())))
            }
        }
    }
}

impl Source for Consumer {
    async fn ask(&mut self, ask: Ask) -> Result<usize, BrokerError> {
        self.connected().await?;
        self.look().await;
        self.search.round().await;
        let (wanted, wait) = match ask {
            Ask::UpTo(batch) => (batch, None),
            // Short enough that most of the lease is left when a message comes at the end of the wait.
            Ask::One => (1, Some(LONGEST_WAIT.min(self.ack_wait.now() / 4))),
            Ask::AsTheyCome(batch) => {
                self.pace = self.pace.min(batch);
                (self.pace, Some(LONGEST_WAIT))
            }
        };
        let wanted = wanted.min(self.bound.max_batch());
        let share = self.jetstream.wire().share(wanted, self.jetstream.max_payload());
        let (batch, bytes) = share.limits(wanted, self.bound.most_bytes());
        // Where the server keeps to no bytes, requests beside each other would be cut down to a message each.
        let beside = if bytes.is_some() { wire::LITTLE } else { usize::MAX };
        self.beside = (batch == wanted).then_some(beside);
        let (question, silence) = question(batch, bytes, wait.map(|wait| wait.min(self.bound.max_expires())));
        let subject = self.jetstream.api_subject(&call::next(&self.bound.stream, &self.bound.consumer));
        if self.largest[0] > 0 {
            self.largest = [0, self.largest[0]];
        }
        let asked = Instant::now();
        let Some(inbox) = self.requests.begins(batch, asked, share) else {
            return Err(BrokerError::Unavailable("there is no inbox".to_owned()));
        };
        let sent =
            self.jetstream.client().publish_with_reply(subject, inbox, call::written(&question).into()).await;
        if let Err(error) = sent {
            self.give_up();
            return Err(BrokerError::Unavailable(error.to_string()));
        }
        (self.waits, self.silence) = (wait.is_some(), silence);
        self.deadline = asked + silence;
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Option<Pulled>, BrokerError> {
        while self.to_come() > 0 {
            let came = tokio::select! {
                biased;
                (message, asked) = late(&mut self.given_up) => match self.pulled(message, asked) {
                    Some(pulled) => return Ok(Some(pulled)),
                    None => continue,
                },
                came = self.requests.next() => came,
                _ = self.link.changed() => None,
                // The request may wait for longer than its lease would last now.
                () = self.ack_wait.changed() => None,
                () = sleep_until(self.deadline) => {
                    self.doubt.arises();
                    None
                }
            };
            let Some(came) = came else {
                self.give_up();
                return Err(BrokerError::Unavailable("the request was lost".to_owned()));
            };
            self.deadline = Instant::now() + self.silence;
            if let Some(status) = came.message.status.filter(|_| came.message.reply.is_none()) {
                if self.status(&came.message, status)? {
                    self.requests.ended(&came);
                    self.pace = 1;
                }
                continue;
            }
            self.requests.brought(&came);
            self.largest[0] = self.largest[0].max(came.message.length);
            if self.to_come() == 0 {
                self.pace = self.pace.saturating_mul(2);
            }
            if let Some(pulled) = self.pulled(came.message, came.asked) {
                return Ok(Some(pulled));
            }
        }
        Ok(None)
    }

    fn to_come(&self) -> usize {
        self.requests.to_come()
    }

    fn has_room(&self) -> bool {
        let largest = self.largest.iter().max().map_or(0, |largest| *largest);
        let to_come = self.to_come().saturating_mul(largest);
        self.beside.is_some_and(|most| to_come <= most)
            && self.requests.has_room()
            && self.jetstream.wire().has_room(self.jetstream.max_payload())
    }

    fn lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    async fn close(&mut self) -> Vec<Pulled> {
        let end = Instant::now() + NOW;
        let mut pulled = Vec::new();
        // What is there now is on its way. What is waited for is not.
        while !self.waits
            && let Ok(Ok(Some(last))) = timeout_at(end, self.next()).await
        {
            pulled.push(last);
        }
        self.give_up();
        for GivenUp { mut messages, asked } in std::mem::take(&mut self.given_up) {
            if messages.drain().await.is_err() {
                continue;
            }
            while let Ok(Some(message)) = timeout_at(end, messages.next()).await {
                pulled.extend(self.pulled(message, asked));
            }
        }
        pulled
    }
}

/// The next message of the requests that were given up, and when it was asked for.
async fn late(given_up: &mut [GivenUp<Subscriber>]) -> (Message, Instant) {
    std::future::poll_fn(|context| {
        for GivenUp { messages, asked } in given_up.iter_mut() {
            while let Poll::Ready(Some(message)) = messages.poll_next_unpin(context) {
                if message.reply.is_some() {
                    return Poll::Ready((message, *asked));
                }
            }
        }
        Poll::Pending
    })
    .await
}
