//! The messages of the NATS Streaming protocol that a client which publishes sends and is sent.
//!
//! Source: the field numbers and types in the protocol's public definition, `pb/protocol.proto` of its Go
//! client. Fields that mean nothing to the bridge are left out; they are skipped where they come in.

use bytes::Bytes;

/// A client wants to connect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectRequest {
    /// What the client calls itself.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// Where the client answers heartbeats.
    #[prost(string, tag = "2")]
    pub heartbeat_inbox: String,
    /// The version of the protocol that the client speaks.
    #[prost(int32, tag = "3")]
    pub protocol: i32,
    /// The client's name for this connection.
    #[prost(bytes = "bytes", tag = "4")]
    pub conn_id: Bytes,
    /// How many seconds the client would let pass between pings.
    #[prost(int32, tag = "5")]
    pub ping_interval: i32,
    /// How many pings without an answer the client would bear.
    #[prost(int32, tag = "6")]
    pub ping_max_out: i32,
}

/// Where a client finds everything, or why it may not connect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectResponse {
    /// What stands before the channel in the subject of a publish.
    #[prost(string, tag = "1")]
    pub pub_prefix: String,
    /// Where a client subscribes.
    #[prost(string, tag = "2")]
    pub sub_requests: String,
    /// Where a client gives a subscription up.
    #[prost(string, tag = "3")]
    pub unsub_requests: String,
    /// Where a client says that it leaves.
    #[prost(string, tag = "4")]
    pub close_requests: String,
    /// Why not; empty: connected.
    #[prost(string, tag = "5")]
    pub error: String,
    /// Where a client closes a subscription.
    #[prost(string, tag = "6")]
    pub sub_close_requests: String,
    /// Where pings go.
    #[prost(string, tag = "7")]
    pub ping_requests: String,
    /// How many seconds are to pass between pings; 0: there are none.
    #[prost(int32, tag = "8")]
    pub ping_interval: i32,
    /// After how many pings without an answer the client gives the connection up.
    #[prost(int32, tag = "9")]
    pub ping_max_out: i32,
    /// The version of the protocol that is spoken here.
    #[prost(int32, tag = "10")]
    pub protocol: i32,
}

/// A message to be stored. It may hold what callers sent, so that its `Debug` is one of its own.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct PubMsg {
    /// What the client calls itself.
    #[prost(string, tag = "1")]
    pub client_id: String,
    /// The message's own id.
    #[prost(string, tag = "2")]
    pub guid: String,
    /// The channel.
    #[prost(string, tag = "3")]
    pub subject: String,
    /// What is to be stored.
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    /// The client's name for its connection.
    #[prost(bytes = "bytes", tag = "6")]
    pub conn_id: Bytes,
}

impl std::fmt::Debug for PubMsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubMsg")
            .field("guid", &self.guid)
            .field("subject", &self.subject)
            .field("bytes", &self.data.len())
            .finish()
    }
}

/// What became of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PubAck {
    /// The message's own id.
    #[prost(string, tag = "1")]
    pub guid: String,
    /// Why it was not stored; empty: it was.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// The answer to a subscription, and to its end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscriptionResponse {
    /// Where acknowledgements would go.
    #[prost(string, tag = "2")]
    pub ack_inbox: String,
    /// Why not; empty: done.
    #[prost(string, tag = "3")]
    pub error: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// One field with a length in front, as the protocol writes it.
    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn a_publish_is_written_as_the_protocol_says() {
        let message = PubMsg {
            client_id: "c".to_owned(),
            guid: "g".to_owned(),
            subject: "s".to_owned(),
            data: Bytes::from_static(b"data"),
            conn_id: Bytes::from_static(b"id"),
        };
        let written =
            [field(1, b"c"), field(2, b"g"), field(3, b"s"), field(5, b"data"), field(6, b"id")].concat();
        assert_eq!(message.encode_to_vec(), written);
        // A reply subject and a checksum are the client's own affair.
        let more = [written, field(4, b"reply"), field(10, b"checksum")].concat();
        assert_eq!(PubMsg::decode(more.as_slice()), Ok(message));
    }

    #[test]
    fn a_connect_response_is_written_as_the_protocol_says() {
        let response = ConnectResponse {
            pub_prefix: "p".to_owned(),
            ping_interval: 5,
            ping_max_out: 88,
            protocol: 1,
            ..Default::default()
        };
        assert_eq!(
            response.encode_to_vec(),
            [field(1, b"p"), vec![8 << 3, 5, 9 << 3, 88, 10 << 3, 1]].concat()
        );
    }

    #[test]
    fn no_length_is_believed_before_the_bytes_are_there() {
        // Field 5 claims 2^63 bytes, or 2^32, or three of two.
        let huge = [0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'x'];
        let large = [0x2a, 0x80, 0x80, 0x80, 0x80, 0x10, b'x'];
        for bytes in [&huge[..], &large[..], &[0x2a, 3, b'x', b'y'][..]] {
            assert!(PubMsg::decode(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_callers_sent_is_not_shown() {
        let message = PubMsg { data: Bytes::from_static(b"secret"), ..Default::default() };
        assert!(!format!("{message:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_message_reads_back_as_it_was_written(
            client_id: String,
            guid: String,
            subject: String,
            data: Vec<u8>,
        ) {
            let message = PubMsg { client_id, guid, subject, data: data.into(), conn_id: Bytes::new() };
            prop_assert_eq!(PubMsg::decode(message.encode_to_vec().as_slice()), Ok(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = PubMsg::decode(bytes.as_slice());
            let _ = ConnectRequest::decode(bytes.as_slice());
        }
    }
}
