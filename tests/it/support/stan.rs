//! A client of the NATS Streaming protocol, from the protocol's definition and independent of the worker's
//! own types.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use tokio::time::timeout;

use super::{Nats, patiently};

/// The cluster that gateways look for unless told otherwise.
pub const CLUSTER: &str = "faas-cluster";

#[derive(Clone, PartialEq, Message)]
pub struct Connect {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub heartbeat_inbox: String,
    #[prost(int32, tag = "3")]
    pub protocol: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub conn_id: Vec<u8>,
    #[prost(int32, tag = "5")]
    pub ping_interval: i32,
    #[prost(int32, tag = "6")]
    pub ping_max_out: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Connected {
    #[prost(string, tag = "1")]
    pub pub_prefix: String,
    #[prost(string, tag = "2")]
    pub sub_requests: String,
    #[prost(string, tag = "3")]
    pub unsub_requests: String,
    #[prost(string, tag = "4")]
    pub close_requests: String,
    #[prost(string, tag = "5")]
    pub error: String,
    #[prost(string, tag = "6")]
    pub sub_close_requests: String,
    #[prost(string, tag = "7")]
    pub ping_requests: String,
    #[prost(int32, tag = "8")]
    pub ping_interval: i32,
    #[prost(int32, tag = "9")]
    pub ping_max_out: i32,
    #[prost(int32, tag = "10")]
    pub protocol: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Publish {
    #[prost(string, tag = "1")]
    pub client_id: String,
    #[prost(string, tag = "2")]
    pub guid: String,
    #[prost(string, tag = "3")]
    pub subject: String,
    #[prost(bytes = "vec", tag = "5")]
    pub data: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    pub conn_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ack {
    #[prost(string, tag = "1")]
    pub guid: String,
    #[prost(string, tag = "2")]
    pub error: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Subscribed {
    #[prost(string, tag = "3")]
    pub error: String,
}

/// A publishing client with a connection of its own.
pub struct Peer {
    pub client: Client,
    pub told: Connected,
    pub acks: String,
    subscriber: Subscriber,
    next: u32,
}

impl Peer {
    /// Connects as the gateway does.
    pub async fn connect(nats: &Nats) -> Self {
        Self::try_connect(nats, "faas-publisher-test")
            .await
            .unwrap_or_else(|error| panic!("not connected: {error}"))
    }

    pub async fn try_connect(nats: &Nats, client_id: &str) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // The real client gives a publish up rather than sending it later.
        let options = ConnectOptions::with_user_and_password("observer".to_owned(), "observer".to_owned());
        let client = options
            .reconnect_delay_callback(|_| Duration::from_millis(50))
            .connect(nats.url())
            .await
            .unwrap();
        let request = Connect {
            client_id: client_id.to_owned(),
            heartbeat_inbox: client.new_inbox(),
            protocol: 1,
            conn_id: b"connection".to_vec(),
            ping_interval: 5,
            ping_max_out: 88,
        };
        let answer =
            client.request(format!("_STAN.discover.{CLUSTER}"), request.encode_to_vec().into()).await;
        let told = Connected::decode(answer.map_err(|error| error.to_string())?.payload).unwrap();
        if !told.error.is_empty() {
            return Err(told.error);
        }
        let acks = format!("_STAN.acks.{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let subscriber = client.subscribe(acks.clone()).await.unwrap();
        client.flush().await.unwrap();
        Ok(Self { client, told, acks, subscriber, next: 0 })
    }

    /// A message to the channel, with an id of its own.
    pub fn message(&mut self, channel: &str, data: impl Into<Vec<u8>>) -> Publish {
        self.next += 1;
        Publish {
            client_id: "faas-publisher-test".to_owned(),
            guid: format!("{}-{}", self.acks.rsplit('.').next().unwrap(), self.next),
            subject: channel.to_owned(),
            data: data.into(),
            conn_id: b"connection".to_vec(),
        }
    }

    /// Sends a message and does not wait.
    pub async fn send(&self, message: &Publish) {
        self.send_raw(message.encode_to_vec()).await;
    }

    /// Sends any bytes where a message would go.
    pub async fn send_raw(&self, bytes: impl Into<Bytes>) {
        let subject = format!("{}.faas-request", self.told.pub_prefix);
        self.client.publish_with_reply(subject, self.acks.clone(), bytes.into()).await.unwrap();
    }

    /// The next acknowledgement of any message.
    pub async fn ack(&mut self) -> Ack {
        patiently("an acknowledgement", self.next_ack()).await
    }

    /// The next acknowledgement, if one comes in time.
    pub async fn ack_within(&mut self, limit: Duration) -> Option<Ack> {
        timeout(limit, self.next_ack()).await.ok()
    }

    async fn next_ack(&mut self) -> Ack {
        loop {
            let message = self.subscriber.next().await.unwrap();
            // Where nobody listens, the broker says so, and the real client takes no notice.
            if message.status.is_none() {
                return Ack::decode(message.payload).unwrap();
            }
        }
    }

    /// Sends a message and awaits its acknowledgement.
    pub async fn publish_message(&mut self, message: &Publish) -> Result<(), String> {
        self.send(message).await;
        loop {
            let ack = self.ack().await;
            if ack.guid == message.guid {
                return if ack.error.is_empty() { Ok(()) } else { Err(ack.error) };
            }
        }
    }

    /// Publishes to a channel and returns the id.
    pub async fn publish(&mut self, channel: &str, data: impl Into<Vec<u8>>) -> Result<String, String> {
        let message = self.message(channel, data);
        self.publish_message(&message).await.map(|()| message.guid)
    }

    /// Publishes until all have been acknowledged, `window` at a time; what stays unanswered for a while is
    /// sent again under the same id. Calls `acked` at each acknowledgement, and returns how many were sent
    /// again.
    pub async fn publish_all(
        &mut self,
        messages: &[Publish],
        window: usize,
        mut acked: impl AsyncFnMut(&str),
    ) -> usize {
        let mut again = 0;
        let mut left: Vec<&Publish> = messages.iter().collect();
        while !left.is_empty() {
            let (mut sent, mut done) = (left.iter(), HashSet::new());
            for message in sent.by_ref().take(window) {
                self.send(message).await;
            }
            while done.len() < left.len() {
                let Some(ack) = self.ack_within(Duration::from_secs(3)).await else { break };
                // An error means that this message was not taken, this time.
                if ack.error.is_empty() && done.insert(ack.guid.clone()) {
                    acked(&ack.guid).await;
                }
                if let Some(message) = sent.next() {
                    self.send(message).await;
                }
            }
            left.retain(|message| !done.contains(&message.guid));
            again += left.len();
        }
        again
    }

    /// Asks something and returns the answer's bytes.
    pub async fn ask(&self, subject: &str, request: impl Into<Bytes>) -> Bytes {
        let answer = patiently(
            &format!("an answer on {subject}"),
            self.client.request(subject.to_owned(), request.into()),
        )
        .await;
        answer.unwrap_or_else(|error| panic!("{subject}: {error}")).payload
    }
}
