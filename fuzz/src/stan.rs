//! What NATS Streaming clients send. Input: a request.

use bytes::Bytes;
use prost::Message;
use queue_worker::stan::{
    Channel,
    requests::{connect, publish},
    subjects::{Subjects, may_answer},
    wire::{ConnectRequest, PubMsg},
};

/// A request is for a queue that is served or is refused in a line, and an answer goes nowhere but where
/// clients await it.
pub fn check(data: &[u8]) {
    let channels = ["faas-request", "slow"]
        .map(|name| Channel { subject: name.to_owned(), stream: format!("OF_{name}") });
    let sent = Bytes::copy_from_slice(data);
    match publish(sent.clone(), &channels) {
        Ok(publication) => {
            assert!(channels.contains(&publication.channel));
            assert!(
                (1..=256).contains(&publication.guid.len())
                    && publication.guid.bytes().all(|byte| byte.is_ascii_graphic())
            );
            assert!(
                data.windows(publication.data.len().max(1)).any(|part| part == publication.data)
                    || publication.data.is_empty()
            );
            super::is_showable(&publication.client, 256);
        }
        Err(refused) => {
            assert!(refused.guid.len() <= 256);
            super::is_showable(&refused.error, 400);
        }
    }
    if let Ok(message) = PubMsg::decode(sent.clone()) {
        assert_eq!(PubMsg::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    }

    let subjects = Subjects::of("faas-cluster");
    let answer = connect(data, &subjects);
    assert_eq!(answer.error.is_empty(), answer.pub_prefix == "_STAN.bridge.faas-cluster.pub");
    assert!(answer.ping_interval >= 0);
    super::is_showable(&answer.error, 200);
    if let Ok(request) = ConnectRequest::decode(sent) {
        assert_eq!(ConnectRequest::decode(request.encode_to_vec().as_slice()), Ok(request));
    }

    if let Ok(subject) = std::str::from_utf8(data) {
        let _ = subjects.request(subject);
        if may_answer(subject) {
            assert!(subject.starts_with("_INBOX.") || subject.starts_with("_STAN.acks."));
            assert!(!subject.split('.').any(|token| matches!(token, "" | "*" | ">")));
        }
    }
}
