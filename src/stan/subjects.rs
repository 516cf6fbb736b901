//! The subjects on which the bridge listens, and on which it may answer.

use super::wire::ConnectResponse;

/// The prefix of the subjects of bridges.
const BRIDGES: &str = "_STAN.bridge.";

/// The subjects of one cluster's bridge. They follow from the cluster's name alone, so that any replica can
/// take over from any other in the middle of a client's session.
#[derive(Debug, Clone)]
pub struct Subjects {
    discover: String,
    base: String,
}

/// The kind of a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To connect.
    Connect,
    /// To have a message stored.
    Publish,
    /// To know whether anybody is there.
    Ping,
    /// To leave.
    Close,
    /// To subscribe, or to give a subscription up.
    Subscribe,
}

impl Subjects {
    /// The subjects of the bridge that answers as `cluster`.
    pub fn of(cluster: &str) -> Self {
        Self { discover: format!("_STAN.discover.{cluster}"), base: format!("{BRIDGES}{cluster}") }
    }

    /// Where clients look for a server.
    pub fn discovery(&self) -> &str {
        &self.discover
    }

    /// Whether a welcome is that of a bridge, of whatever cluster.
    pub fn are_a_bridges(welcome: &ConnectResponse) -> bool {
        welcome.error.is_empty() && welcome.pub_prefix.starts_with(BRIDGES)
    }

    /// What the bridge subscribes to.
    pub fn subscriptions(&self) -> [String; 2] {
        [self.discover.clone(), format!("{}.>", self.base)]
    }

    /// What a message on this subject asks for.
    pub fn request(&self, subject: &str) -> Option<Request> {
        if subject == self.discover {
            return Some(Request::Connect);
        }
        let rest = subject.strip_prefix(&self.base)?.strip_prefix('.')?;
        match rest.split_once('.') {
            Some(("pub", _channel)) => Some(Request::Publish),
            None if rest == "ping" => Some(Request::Ping),
            None if rest == "close" => Some(Request::Close),
            None if rest == "sub" => Some(Request::Subscribe),
            _ => None,
        }
    }

    /// Tells a client where everything is.
    pub fn welcome(&self) -> ConnectResponse {
        let at = |what: &str| format!("{}.{what}", self.base);
        ConnectResponse {
            pub_prefix: at("pub"),
            sub_requests: at("sub"),
            unsub_requests: at("sub"),
            sub_close_requests: at("sub"),
            close_requests: at("close"),
            ping_requests: at("ping"),
            ..ConnectResponse::default()
        }
    }
}

/// Whether the bridge may publish an answer there. The client names the place and the bridge has rights that
/// the client may lack: an empty answer to `$JS.API.STREAM.DELETE.<stream>` would delete a stream. So answers
/// go only where all clients of the protocol await them: acknowledgements below `_STAN.acks`, all else in
/// inboxes.
pub fn may_answer(reply: &str) -> bool {
    let rest = reply.strip_prefix("_INBOX.").or_else(|| reply.strip_prefix("_STAN.acks."));
    rest.is_some_and(|rest| rest.split('.').all(|token| !matches!(token, "" | "*" | ">")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_everything_where_it_is_told() {
        let subjects = Subjects::of("faas-cluster");
        let told = subjects.welcome();
        assert_eq!(told.error, "");
        for (subject, request) in [
            ("_STAN.discover.faas-cluster", Request::Connect),
            (&format!("{}.faas-request", told.pub_prefix), Request::Publish),
            (&format!("{}.team.queue", told.pub_prefix), Request::Publish),
            (&told.ping_requests, Request::Ping),
            (&told.close_requests, Request::Close),
            (&told.sub_requests, Request::Subscribe),
            (&told.unsub_requests, Request::Subscribe),
            (&told.sub_close_requests, Request::Subscribe),
        ] {
            assert_eq!(subjects.request(subject), Some(request), "{subject}");
        }
        for subject in [
            "_STAN.bridge.faas-cluster.pub",
            "_STAN.bridge.faas-cluster.ping.x",
            "_STAN.bridge.faas-cluster.x",
        ] {
            assert_eq!(subjects.request(subject), None, "{subject}");
        }
    }

    #[test]
    fn a_bridge_is_known_by_its_welcome() {
        assert!(Subjects::are_a_bridges(&Subjects::of("faas-cluster").welcome()));
        let other = |pub_prefix: &str, error: &str| ConnectResponse {
            pub_prefix: pub_prefix.into(),
            error: error.into(),
            ..Default::default()
        };
        assert!(!Subjects::are_a_bridges(&other("", "stan: invalid connection request")));
        assert!(!Subjects::are_a_bridges(&other("_STAN.pub.3vzLnvVV", "")));
    }

    #[test]
    fn answers_go_to_inboxes_and_acknowledgements_only() {
        for reply in ["_INBOX.a", "_INBOX.a.b", "_STAN.acks.a"] {
            assert!(may_answer(reply), "{reply}");
        }
        for reply in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOXES.a",
            "_INBOX.>",
            "_INBOX.*",
            "_INBOX.a..b",
            "_STAN.acks",
            "_STAN.bridge.c.ping",
        ] {
            assert!(!may_answer(reply), "{reply}");
        }
        for reply in [
            "$JS.API.STREAM.DELETE.faas-request",
            "faas-request",
            "faas-request-dead.f",
            "$SYS.REQ.SERVER.PING",
        ] {
            assert!(!may_answer(reply), "{reply}");
        }
    }
}
