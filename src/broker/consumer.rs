//! One durable pull consumer, asked request by request. The client's own streams prefetch and stall on small
//! batches; a worker wants just what it has permits for.

mod bound;
mod doubt;
mod look;
mod open;
mod question;
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
use open::Open;
use question::{NOW, question};
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
    /// The server, by how many there were before it, on which no worker had a delivery before this one.
    new_to: Option<u64>,
    search: Search,
    inbox: Option<Inbox>,
    /// Inboxes of requests that were given up. Messages on their way to them are still taken: a delivery
    /// that is dropped looks to the next worker like a call whose worker died.
    retired: Vec<Inbox>,
    /// The requests whose messages are still to come.
    open: Open<wire::Share>,
    /// Whether the last one could ask for all that was wanted.
    has_room: bool,
    /// How many messages a request that waits for as many as come asks for: one, and twice as many after each
    /// that was filled, so that those who wait for nothing leave the connection to others.
    pace: usize,
    /// Messages that were still to come when requests were lost.
    lost: usize,
    /// Without a sign by then the requests count as dropped.
    deadline: Instant,
    silence: Duration,
}

#[derive(Debug)]
struct Inbox {
    /// What its requests have before their numbers.
    prefix: String,
    messages: Subscriber,
    /// When its last request was sent.
    asked: Instant,
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
            new_to: None,
            inbox: None,
            retired: Vec::new(),
            open: Open::default(),
            has_room: true,
            pace: 1,
            lost: 0,
            deadline: now,
            silence: NOW,
        }
    }

    /// The same, whose deliveries may have been settled before: they are of the queue with this stream. No
    /// worker had any on the server `new_to`.
    pub fn doubting(self, queue: &str, new_to: Option<u64>) -> Self {
        Self { queue: Some(queue.to_owned()), new_to, ..self }
    }

    /// What the subjects have in common to which answers come.
    async fn inbox(&mut self) -> Result<String, BrokerError> {
        if self.link.has_changed().unwrap_or(false) {
            self.retire();
        }
        let link = *self
            .link
            .wait_for(|link| link.up)
            .await
            .map_err(|_| BrokerError::Unavailable("the connection is closed".to_owned()))?;
        self.doubt.connected(link.made, link.lives);
        self.search.connected(&link);
        if let Some(inbox) = &self.inbox {
            return Ok(inbox.prefix.clone());
        }
        let client = self.jetstream.client();
        let prefix = client.new_inbox();
        let messages = client
            .subscribe(format!("{prefix}.*"))
            .await
            .map_err(|error| BrokerError::Unavailable(error.to_string()))?;
        self.inbox = Some(Inbox { prefix: prefix.clone(), messages, asked: Instant::now() });
        Ok(prefix)
    }

    /// Gives the requests up.
    fn retire(&mut self) {
        if let Some(inbox) = self.inbox.take() {
            // What is still on its way may be of any of them.
            let asked = self.open.oldest().unwrap_or(inbox.asked);
            self.retired.push(Inbox { asked, ..inbox });
        }
        self.lost = self.lost.saturating_add(self.open.close());
        self.retired.retain(|inbox| inbox.asked.elapsed() < self.ack_wait.now());
    }

    fn pulled(&mut self, message: Message, asked: Instant) -> Option<Pulled> {
        let reply = message.reply?.into_string();
        let AckSubject { stream, delivered, sequence, stored, pending, .. } = AckSubject::read(&reply)?;
        self.search.passed(sequence);
        Some(Pulled {
            arrival: Arrival {
                subject: message.subject.into_string(),
                headers: message.headers.unwrap_or_default(),
                payload: message.payload,
                stream: stream.to_owned(),
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

    /// The broker may have forgotten something, although the connection stands.
    fn doubts(&mut self) {
        self.new_to = None;
        self.doubt.arises();
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
                self.doubts();
                self.retire();
                Err(BrokerError::Unavailable(format!("{} {said}", other.as_u16())))
            }
        }
    }
}

impl Source for Consumer {
    async fn ask(&mut self, ask: Ask) -> Result<usize, BrokerError> {
        let inbox = self.inbox().await?;
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
        self.has_room = batch == wanted && bytes.is_none();
        let (question, silence) = question(batch, bytes, wait.map(|wait| wait.min(self.bound.max_expires())));
        let subject = self.jetstream.api_subject(&call::next(&self.bound.stream, &self.bound.consumer));
        let asked = Instant::now();
        if let Some(inbox) = &mut self.inbox {
            inbox.asked = asked;
        }
        let number = self.open.add(batch, asked, share);
        let (inbox, payload) = (format!("{inbox}.{number}"), call::written(&question).into());
        let sent = self.jetstream.client().publish_with_reply(subject, inbox, payload).await;
        if let Err(error) = sent {
            self.open.ends(number, None);
            return Err(BrokerError::Unavailable(error.to_string()));
        }
        self.silence = silence;
        self.deadline = asked + silence;
        Ok(batch)
    }

    async fn next(&mut self) -> Result<Option<Pulled>, BrokerError> {
        while self.open.to_come() > 0 {
            let Some(inbox) = &mut self.inbox else { return Ok(None) };
            let message = tokio::select! {
                biased;
                message = inbox.messages.next() => message,
                (message, asked) = late(&mut self.retired) => match self.pulled(message, asked) {
                    Some(pulled) => return Ok(Some(pulled)),
                    None => continue,
                },
                _ = self.link.changed() => None,
                // The request may wait for longer than its lease would last now.
                () = self.ack_wait.changed() => None,
                () = sleep_until(self.deadline) => {
                    self.doubts();
                    None
                }
            };
            let Some(message) = message else {
                self.retire();
                return Err(BrokerError::Unavailable("the request was lost".to_owned()));
            };
            self.deadline = Instant::now() + self.silence;
            if let Some(status) = message.status.filter(|_| message.reply.is_none()) {
                if self.status(&message, status)? {
                    self.open.answered(&message);
                    self.pace = 1;
                }
                continue;
            }
            let asked = self.open.brought();
            if self.open.to_come() == 0 {
                self.pace = self.pace.saturating_mul(2);
            }
            if let Some(pulled) = self.pulled(message, asked) {
                return Ok(Some(pulled));
            }
        }
        Ok(None)
    }

    fn to_come(&self) -> usize {
        self.open.to_come()
    }

    fn has_room(&self) -> bool {
        self.has_room
    }

    fn lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    async fn close(&mut self) -> Vec<Pulled> {
        self.retire();
        let mut pulled = Vec::new();
        let end = Instant::now() + NOW;
        for mut inbox in std::mem::take(&mut self.retired) {
            if inbox.messages.drain().await.is_err() {
                continue;
            }
            while let Ok(Some(message)) = timeout_at(end, inbox.messages.next()).await {
                pulled.extend(self.pulled(message, inbox.asked));
            }
        }
        pulled
    }
}

/// The next message in one of the retired inboxes, and when it was asked for.
async fn late(retired: &mut [Inbox]) -> (Message, Instant) {
    std::future::poll_fn(|context| {
        for inbox in retired.iter_mut() {
            while let Poll::Ready(Some(message)) = inbox.messages.poll_next_unpin(context) {
                if message.reply.is_some() {
                    return Poll::Ready((message, inbox.asked));
                }
            }
        }
        Poll::Pending
    })
    .await
}
