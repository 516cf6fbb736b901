//! The STAN bridge: gateways that only speak the NATS Streaming (STAN) client protocol publish to it, and it
//! stores what they publish in JetStream.
//!
//! ```text
//!  gateway ─PubMsg─▶ bridge ─Nats-Msg-Id: guid─▶ the queue's stream
//!          ◀─PubAck─        ◀───────PubAck─────
//! ```
//!
//! A message is acknowledged after the right stream has acknowledged it, and never otherwise. The guid is the
//! id, so that a message which is published again is stored once. Of STAN only the publishing half is spoken;
//! there are no sessions: all replicas listen on the same subjects in one queue group, each can answer any
//! request of any client, and none that dies takes anything with it but what it had not acknowledged.
//!
//! Nothing tells a publisher on plain NATS to slow down, and unread messages pile up or are dropped in
//! silence. So the bridge reads everything at once, keeps a bounded amount until its turn to be stored, and
//! refuses the rest with an error.
//!
//! Calls: text, tasks, message, observe, broker, admin.

mod complaints;
pub(crate) mod denial;
mod open;
pub mod requests;
pub mod subjects;
pub mod wire;

use std::{pin::pin, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, Message as Incoming, Subject, SubscribeError, Subscriber, client::SubscribeErrorKind,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::try_join_all, stream::SelectAll};
use prost::Message;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    complaints::Complaints,
    requests::{Publication, Reason, Refused},
    subjects::{Request, Subjects, may_answer},
    wire::PubAck,
};
pub use self::{open::Open, requests::Channel};
use crate::{
    broker::{
        jetstream::{ApiError, JetStream, StreamInfo},
        seam::{Broker, BrokerError},
    },
    message::record::Record,
    observe::metrics::Registry,
    tasks::error_backoff::ErrorBackoff,
};

/// The bridges of all replicas.
const GROUP: &str = "queue-worker";
/// The most bytes that wait to be stored, in this process.
const HELD: usize = 32 << 20;
/// The cost of a message besides its bytes.
const COST: usize = 1 << 10;
/// The most messages that are being stored at once, in this process.
const STORING: usize = 256;
/// The time for which a silent broker is asked again. A try takes some seconds at most, and clients wait
/// 30 s.
const SILENCE: Duration = Duration::from_secs(20);
/// The time for which a broker that says no is asked again: a stream may be full for a moment only.
const REFUSAL: Duration = Duration::from_secs(2);
/// The pause between two tries, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A number of more digits than nats-server reads.
const UNREADABLE: u64 = 1_000_000_000_000;

/// A bridge that listens.
#[derive(Debug)]
pub struct Bridge {
    requests: SelectAll<Subscriber>,
    desk: Arc<Desk>,
}

/// The subject on which clients look for the server of a cluster.
pub fn discovery(cluster: &str) -> String {
    Subjects::of(cluster).discovery().to_owned()
}

/// A client's first words that lead to nothing: the bridge keeps no sessions, and a server that does refuses
/// them, because they name no place for its heartbeats.
pub fn greeting() -> Vec<u8> {
    wire::ConnectRequest { client_id: "queue-worker-doctor".to_owned(), protocol: 1, ..Default::default() }
        .encode_to_vec()
}

/// Whether the answer to that is a bridge's.
pub fn is_bridge(answer: &[u8]) -> bool {
    wire::ConnectResponse::decode(answer).is_ok_and(|answer| Subjects::are_a_bridges(&answer))
}

/// The parts that answer requests.
#[derive(Debug)]
struct Desk {
    jetstream: JetStream,
    subjects: Subjects,
    channels: Vec<Channel>,
    metrics: Registry,
    complaints: Complaints,
    held: Arc<Semaphore>,
    storing: Semaphore,
    publishing: TaskTracker,
}

impl Bridge {
    /// Waits for one of the streams of the `channels`, listens as `cluster`, and returns when the broker has
    /// seen to it. A right that is missing arrives as the connection's complaint.
    ///
    /// # Errors
    /// A cluster's name that makes no subject, or a connection that was closed for good.
    pub async fn open(
        jetstream: &JetStream,
        cluster: &str,
        channels: Vec<Channel>,
        metrics: &Registry,
    ) -> Result<Self, SubscribeError> {
        let desk = Desk {
            jetstream: jetstream.clone(),
            subjects: Subjects::of(cluster),
            channels,
            metrics: metrics.clone(),
            complaints: Complaints::default(),
            held: Arc::new(Semaphore::new(HELD)),
            storing: Semaphore::new(STORING),
            publishing: TaskTracker::new(),
        };
        desk.a_stream_stands().await;
        let requests = desk.listen().await?;
        // The broker answers in order, so that it has heard of the subscriptions now.
        desk.a_stream_stands().await;
        let served: Vec<_> = desk.channels.iter().map(|channel| channel.subject.as_str()).collect();
        tracing::info!(
            cluster,
            channels = served.join(", "),
            "NATS Streaming: taking messages from its clients"
        );
        Ok(Self { requests, desk: Arc::new(desk) })
    }

    /// Serves clients until `stop`, then lets go of its subjects, and stores and acknowledges what it had
    /// received, unless `cut` comes first.
    pub async fn run(mut self, stop: CancellationToken, cut: CancellationToken) {
        let desk = self.desk.clone();
        let served = async {
            while let Some(request) = stop.run_until_cancelled(self.requests.next()).await {
                match request {
                    Some(request) => desk.answer(request).await,
                    // The client ended by itself, and all that it listened to with it.
                    None => match stop.run_until_cancelled(desk.listen()).await {
                        Some(Ok(requests)) => self.requests = requests,
                        _ => break,
                    },
                }
            }
            self.leave().await;
            desk.publishing.close();
            desk.publishing.wait().await;
        };
        if cut.run_until_cancelled(served).await.is_none() {
            tracing::warn!(
                messages = desk.publishing.len(),
                "NATS Streaming: the grace is over; these messages are not acknowledged"
            );
        }
    }

    /// Leaves all further requests to other replicas, and answers those that are on their way here.
    ///
    /// The client library's own ways to leave forget a subscription before the broker has let go of it, and
    /// lose what comes in between. So the broker is told a number of messages that is too long for it to
    /// read, which it takes for "now" (nats-server 2.15: `processUnsub`, `parseSize`), while the library goes
    /// on listening. The broker sends in order: what follows a round trip would have been sent to another
    /// replica.
    async fn leave(&mut self) {
        for subscriber in self.requests.iter_mut() {
            // It fails when the connection is closed for good, and then there is nothing to leave.
            let _ = subscriber.unsubscribe_after(UNREADABLE).await;
        }
        let desk = self.desk.clone();
        let mut fence = pin!(desk.round_trip());
        loop {
            tokio::select! {
                biased;
                Some(request) = self.requests.next() => desk.answer(request).await,
                () = &mut fence => break,
            }
        }
        while let Some(Some(request)) = self.requests.next().now_or_never() {
            desk.answer(request).await;
        }
    }
}

impl Desk {
    /// Listens for requests, with the client that is there as soon as one is.
    async fn listen(&self) -> Result<SelectAll<Subscriber>, SubscribeError> {
        let mut link = self.jetstream.link();
        loop {
            let up = link.wait_for(|link| link.up).await.is_ok();
            let client = self.jetstream.client();
            let subscriptions = self
                .subjects
                .subscriptions()
                .into_iter()
                .map(|subject| client.queue_subscribe(subject, GROUP.to_owned()));
            match try_join_all(subscriptions).await {
                Err(error) if up && error.kind() != SubscribeErrorKind::InvalidSubject => {
                    // This client is gone, and the link tells when another one is there.
                    let _ = link.changed().await;
                }
                listening => return listening.map(SelectAll::from_iter),
            }
        }
    }

    /// Waits until one of the streams is there. A message for another is stored when that is there, too, or
    /// refused.
    async fn a_stream_stands(&self) {
        loop {
            for channel in &self.channels {
                if self.ask_for(channel).await.is_ok() {
                    return;
                }
            }
            sleep(PAUSE.0).await;
        }
    }

    async fn ask_for(&self, channel: &Channel) -> Result<StreamInfo, ApiError> {
        self.jetstream.stream(&channel.stream).await
    }

    /// Asks the broker something, and so waits until it has done all that it was told before, if it can be
    /// reached.
    async fn round_trip(&self) {
        if let Some(channel) = self.channels.first() {
            let _ = self.ask_for(channel).await;
        }
    }

    /// Answers one request, or sees to it that it will be.
    async fn answer(self: &Arc<Self>, request: Incoming) {
        let Some(kind) = self.subjects.request(&request.subject) else { return };
        let Some(reply) = request.reply.filter(|reply| may_answer(reply)) else {
            let error = "it names no inbox to be answered in";
            let refused = Refused::new(String::new(), Reason::Unanswerable, error);
            return if kind == Request::Publish {
                self.refuse(None, None, refused).await
            } else {
                self.complaints.note(&refused)
            };
        };
        let answer = match kind {
            Request::Publish => return self.take(reply, request.payload).await,
            Request::Connect => requests::connect(&request.payload, &self.subjects).encode_to_vec(),
            Request::Subscribe => requests::subscribe().encode_to_vec(),
            // Nobody is unknown, and nobody is missed: no error.
            Request::Ping | Request::Close => Vec::new(),
        };
        tracing::debug!(request = ?kind, "NATS Streaming: answered a client");
        self.send(reply, answer).await;
    }

    /// Takes a message on: it is stored and acknowledged when its turn comes.
    async fn take(self: &Arc<Self>, reply: Subject, payload: Bytes) {
        let received = Instant::now();
        let size = payload.len();
        let publication = match requests::publish(payload, &self.channels) {
            Ok(publication) => publication,
            Err(refused) => return self.refuse(Some(reply), None, refused).await,
        };
        // One that is larger than all that may wait has to wait alone.
        let cost = u32::try_from((size + COST).min(HELD)).unwrap_or(u32::MAX);
        match self.held.clone().try_acquire_many_owned(cost) {
            Ok(place) => {
                let desk = self.clone();
                self.publishing.spawn(async move {
                    desk.store(reply, publication, received).await;
                    drop(place);
                });
            }
            Err(_) => {
                let error = "too many messages wait to be stored; try again later";
                self.refuse(
                    Some(reply),
                    Some(&publication.channel.subject),
                    Refused::new(publication.guid, Reason::Busy, error),
                )
                .await;
            }
        }
    }

    /// Stores a message, and acknowledges it if the stream did.
    async fn store(&self, reply: Subject, publication: Publication, received: Instant) {
        let Publication { guid, channel, data, client } = publication;
        let bytes = data.len();
        let record = Record {
            stream: channel.stream,
            subject: channel.subject,
            id: guid,
            headers: HeaderMap::new(),
            payload: data,
        };
        let stored = self.deposit(&record, received).await;
        let guid = record.id;
        match stored {
            Ok(new) => {
                tracing::debug!(
                    guid,
                    client,
                    channel = record.subject,
                    bytes,
                    new,
                    "NATS Streaming: stored a message"
                );
                self.metrics.stan_message(Some(&record.subject), if new { "stored" } else { "duplicate" });
                self.send(reply, PubAck { guid, error: String::new() }.encode_to_vec()).await;
            }
            Err(BrokerError::TooLarge) => {
                let error = format!(
                    "larger than the broker takes: {bytes} bytes and headers, of {} at most",
                    self.jetstream.max_payload()
                );
                self.refuse(Some(reply), Some(&record.subject), Refused::new(guid, Reason::TooLarge, &error))
                    .await;
            }
            Err(error) => {
                self.refuse(
                    Some(reply),
                    Some(&record.subject),
                    Refused::new(guid, Reason::Broker, &error.to_string()),
                )
                .await
            }
        }
    }

    /// Tries to store a record for as long as that makes sense. Whether it is new.
    async fn deposit(&self, record: &Record, received: Instant) -> Result<bool, BrokerError> {
        let mut pause = ErrorBackoff::new(PAUSE);
        let mut refused_since = None;
        // Given back between the tries, so that a queue which takes nothing does not hold up the others.
        // Never closed. A message must not be stored after its client gave up: its caller was told that it
        // had failed.
        let end = received + SILENCE;
        while Instant::now() < end
            && let Ok(turn) = timeout_at(end, self.storing.acquire()).await
        {
            let tried = self.jetstream.deposit(record).await;
            drop(turn);
            let error = match tried {
                Err(error @ (BrokerError::Unavailable(_) | BrokerError::Refused(_))) => error,
                settled => return settled,
            };
            if let BrokerError::Refused(_) = &error
                && refused_since.get_or_insert_with(Instant::now).elapsed() > REFUSAL
            {
                return Err(error);
            }
            tracing::debug!(guid = record.id, %error, "NATS Streaming: not stored yet");
            pause.rest().await;
        }
        Err(BrokerError::Unavailable(format!("not for {} s", SILENCE.as_secs())))
    }

    async fn refuse(&self, reply: Option<Subject>, queue: Option<&str>, refused: Refused) {
        self.metrics.stan_message(queue, if refused.reason == Reason::Broker { "failed" } else { "refused" });
        self.complaints.note(&refused);
        if let Some(reply) = reply {
            self.send(reply, PubAck { guid: refused.guid, error: refused.error }.encode_to_vec()).await;
        }
    }

    /// Sends an answer. One that gets lost is missed by the client, which asks again.
    async fn send(&self, reply: Subject, answer: Vec<u8>) {
        if let Err(error) = self.jetstream.client().publish(reply, answer.into()).await {
            tracing::debug!(%error, "NATS Streaming: an answer was not sent");
        }
    }
}
