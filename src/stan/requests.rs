//! Turns a client's request into an answer or a message to store, without I/O.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use super::{
    subjects::Subjects,
    wire::{ConnectRequest, ConnectResponse, PubMsg, SubscriptionResponse},
};
use crate::text::line::one_line;

/// Longest guid in bytes. Those of the known clients have 22.
const LONGEST_GUID: usize = 256;
/// The most characters of a client's text that are shown.
const SHOWN: usize = 64;
/// The seconds between two pings of a client that names none.
const PING_INTERVAL: i32 = 5;

/// A channel that clients may publish to: a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name, which is also the subject.
    pub subject: String,
    /// The stream that has to take it.
    pub stream: String,
}

/// A message that is to be stored.
#[derive(PartialEq)]
pub struct Publication {
    /// Its own id.
    pub guid: String,
    /// The channel that it goes to.
    pub channel: Channel,
    /// The bytes to store.
    pub data: Bytes,
    /// The sender's name, fit to be shown.
    pub client: String,
}

impl fmt::Debug for Publication {
    /// Leaves the payload out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Publication");
        shown
            .field("guid", &self.guid)
            .field("channel", &self.channel)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// A message that is not stored, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its own id, as far as it can be repeated.
    pub guid: String,
    /// The kind of reason.
    pub reason: Reason,
    /// The reason in words, which go to the client.
    pub error: String,
}

/// The reason for not storing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is no message of the protocol.
    Malformed,
    /// There is nowhere to send its acknowledgement.
    Unanswerable,
    /// It names no client.
    Client,
    /// Its id cannot be used.
    Guid,
    /// No queue is its channel.
    Channel,
    /// The broker does not take messages so large.
    TooLarge,
    /// As much waits to be stored as may.
    Busy,
    /// The broker said no, or nothing.
    Broker,
}

/// The answer to a client that connects. The interval of the pings is the client's. It never gives the
/// connection up for pings that nobody answers: the bridge keeps no sessions, so that a session is good again
/// as soon as any replica is back, while the gateway of OpenFaaS tries to connect anew for only about an hour
/// and would then have to be restarted. Pings are still asked for, since they are how a client learns that
/// its connection to NATS was closed for good.
pub fn connect(request: &[u8], subjects: &Subjects) -> ConnectResponse {
    let refuse = |error: &str| ConnectResponse { error: error.to_owned(), ..ConnectResponse::default() };
    let Ok(request) = ConnectRequest::decode(request) else {
        return refuse("the bridge cannot read this connect request");
    };
    let is_client_id = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if request.client_id.is_empty() || !request.client_id.chars().all(is_client_id) {
        return refuse("invalid client ID: letters, digits, - and _ are expected");
    }
    ConnectResponse {
        ping_interval: if request.ping_interval > 0 { request.ping_interval } else { PING_INTERVAL },
        ping_max_out: i32::MAX,
        protocol: 1,
        ..subjects.welcome()
    }
}

/// The answer to a client that subscribes.
pub fn subscribe() -> SubscriptionResponse {
    SubscriptionResponse {
        error: "this bridge only takes messages in: NATS Streaming subscriptions are not served".to_owned(),
        ..SubscriptionResponse::default()
    }
}

/// Reads a message that is to be stored in one of the `channels`.
///
/// # Errors
/// [`Refused`]: what is answered instead.
pub fn publish(request: Bytes, channels: &[Channel]) -> Result<Publication, Refused> {
    let Ok(message) = PubMsg::decode(request) else {
        return Err(Refused::new(String::new(), Reason::Malformed, "the bridge cannot read this message"));
    };
    let PubMsg { client_id, guid, subject, data, conn_id } = message;
    if guid.is_empty() || guid.len() > LONGEST_GUID || !guid.bytes().all(|b| b.is_ascii_graphic()) {
        let guid = if guid.len() > LONGEST_GUID { String::new() } else { guid };
        return Err(Refused::new(
            guid,
            Reason::Guid,
            &format!("invalid guid: 1 to {LONGEST_GUID} printable characters are expected"),
        ));
    }
    // The protocol lets the connection's id stand for the client's.
    if client_id.is_empty() && conn_id.is_empty() {
        return Err(Refused::new(guid, Reason::Client, "the message names no client"));
    }
    match channels.iter().find(|channel| channel.subject == subject) {
        Some(channel) => Ok(Publication { guid, channel: channel.clone(), data, client: shown(&client_id) }),
        None => {
            let served: Vec<_> = channels.iter().map(|channel| channel.subject.as_str()).collect();
            let error = format!("no queue is called \"{}\"; served: {}", shown(&subject), served.join(", "));
            Err(Refused::new(guid, Reason::Channel, &error))
        }
    }
}

impl Refused {
    /// A refusal of the message `guid`.
    pub fn new(guid: String, reason: Reason, error: &str) -> Self {
        Self { guid, reason, error: error.to_owned() }
    }
}

/// The beginning of what a client chose, on one line.
fn shown(text: &str) -> String {
    one_line(text).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn channels() -> Vec<Channel> {
        ["faas-request", "slow"]
            .map(|name| Channel { subject: name.to_owned(), stream: format!("OF_{name}") })
            .to_vec()
    }

    fn message() -> PubMsg {
        PubMsg {
            client_id: "gateway".to_owned(),
            guid: "g1".to_owned(),
            subject: "slow".to_owned(),
            data: Bytes::from_static(b"data"),
            conn_id: Bytes::from_static(b"id"),
        }
    }

    fn refused(message: &PubMsg) -> Refused {
        publish(message.encode_to_vec().into(), &channels()).unwrap_err()
    }

    #[test]
    fn a_message_goes_to_the_queue_that_is_its_channel() {
        let publication = publish(message().encode_to_vec().into(), &channels()).unwrap();
        assert_eq!((publication.guid.as_str(), publication.channel.stream.as_str()), ("g1", "OF_slow"));
        assert_eq!(publication.data, "data");
        // Either id will do for the client.
        for message in
            [PubMsg { client_id: String::new(), ..message() }, PubMsg { conn_id: Bytes::new(), ..message() }]
        {
            assert!(publish(message.encode_to_vec().into(), &channels()).is_ok(), "{message:?}");
        }
    }

    #[test]
    fn a_message_goes_nowhere_else() {
        for subject in [
            "",
            "other",
            "slow ",
            "slow.x",
            "Slow",
            "$JS.API.STREAM.DELETE.slow",
            "slow-dead.f",
            "slow-retries.due.f",
            ">",
            "*",
        ] {
            let refused = refused(&PubMsg { subject: subject.to_owned(), ..message() });
            assert_eq!((refused.reason, refused.guid.as_str()), (Reason::Channel, "g1"), "{subject}");
            assert!(
                refused.error.contains(&format!("\"{subject}\""))
                    && refused.error.ends_with("faas-request, slow"),
                "{}",
                refused.error
            );
        }
        let long = refused(&PubMsg { subject: format!("a\nb{}", "x".repeat(1000)), ..message() });
        assert!(long.error.len() < 200 && !long.error.contains('\n'), "{}", long.error);
    }

    #[test]
    fn a_message_without_a_usable_id_or_client_is_refused() {
        for guid in ["", "a b", "a\r\nNats-Rollup: all", "é", "\u{7f}"] {
            assert_eq!(
                refused(&PubMsg { guid: guid.to_owned(), ..message() }).reason,
                Reason::Guid,
                "{guid}"
            );
        }
        let overlong = refused(&PubMsg { guid: "g".repeat(LONGEST_GUID + 1), ..message() });
        assert_eq!((overlong.reason, overlong.guid.as_str()), (Reason::Guid, ""));
        let nobody = refused(&PubMsg { client_id: String::new(), conn_id: Bytes::new(), ..message() });
        assert_eq!((nobody.reason, nobody.guid.as_str()), (Reason::Client, "g1"));
    }

    #[test]
    fn a_client_is_told_never_to_give_up() {
        let request = ConnectRequest {
            client_id: "faas-publisher-x_1".to_owned(),
            ping_interval: 7,
            ping_max_out: 3,
            ..Default::default()
        };
        let response = connect(&request.encode_to_vec(), &Subjects::of("c"));
        assert_eq!((response.error.as_str(), response.protocol), ("", 1));
        assert_eq!((response.ping_interval, response.ping_max_out), (7, i32::MAX));
        // 0 would mean no pings at all.
        let silent = ConnectRequest { ping_interval: 0, ..request };
        assert_eq!(connect(&silent.encode_to_vec(), &Subjects::of("c")).ping_interval, 5);
    }

    #[test]
    fn a_connect_request_that_says_nothing_is_refused() {
        let named =
            |name: &str| ConnectRequest { client_id: name.to_owned(), ..Default::default() }.encode_to_vec();
        for request in [named(""), named("a b"), named("a.b"), b"\xff\xff".to_vec()] {
            let response = connect(&request, &Subjects::of("c"));
            assert!(!response.error.is_empty() && response.pub_prefix.is_empty(), "{request:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_in_is_for_a_queue_or_is_refused(bytes: Vec<u8>) {
            match publish(bytes.into(), &channels()) {
                Ok(publication) => prop_assert!(channels().contains(&publication.channel)),
                Err(refused) => prop_assert!(!refused.error.is_empty() && refused.guid.len() <= LONGEST_GUID),
            }
        }

        #[test]
        fn a_message_that_is_cut_short_is_never_stored_in_part(keep in 0_usize..100) {
            let whole = message().encode_to_vec();
            let cut = whole[..keep.min(whole.len())].to_vec();
            if let Ok(publication) = publish(cut.into(), &channels()) {
                prop_assert!(publication.data == "data" || publication.data.is_empty());
            }
        }
    }
}
