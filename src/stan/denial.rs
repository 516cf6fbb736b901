//! Finds the part that a denial of the broker concerns, by the subject in the broker's complaint. Pure.

use crate::{
    broker::jetstream::call,
    message::names::{Names, covers},
    stan::subjects::Subjects,
};

/// The calls of JetStream's API whose next word is a stream.
const CALLS: [&str; 11] = [
    "STREAM.INFO.",
    "STREAM.CREATE.",
    "STREAM.UPDATE.",
    "STREAM.MSG.GET.",
    "STREAM.MSG.DELETE.",
    "DIRECT.GET.",
    "CONSUMER.INFO.",
    "CONSUMER.LIST.",
    "CONSUMER.CREATE.",
    "CONSUMER.DURABLE.CREATE.",
    "CONSUMER.MSG.NEXT.",
];

/// The part that a complaint concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern<'a> {
    /// Everything: the log-in was taken away, or answers cannot be read.
    All,
    /// This queue.
    Queue(&'a str),
    /// What operators have done to this queue: its calls go on without.
    Operations(&'a str),
    /// NATS Streaming clients.
    Bridge,
    /// One NATS Streaming client, or a command: it wants its answers where they may not go, or hears nothing.
    Client,
}

/// Whom the `complaint` concerns, of those who serve these queues, and a bridge if there is one.
pub fn concern<'a>(complaint: &str, queues: &'a [Names], bridge: Option<&Subjects>) -> Concern<'a> {
    let Some((publishes, subject)) = subject(complaint) else { return Concern::All };
    // Nothing is lost where `nats micro` does not list a worker.
    if subject.starts_with("$SRV.") {
        return Concern::Client;
    }
    if let Some(queue) = queues.iter().find(|queue| operates(queue, subject)) {
        return Concern::Operations(&queue.queue);
    }
    if let Some(queue) = queues.iter().find(|queue| writes(queue, subject)).or_else(|| {
        let stream = stream(subject)?;
        queues
            .iter()
            .find(|queue| [&queue.stream, &queue.retries, &queue.dead].into_iter().any(|own| own == stream))
    }) {
        return Concern::Queue(&queue.queue);
    }
    match bridge {
        // A command wants its answer where it may not go.
        None if publishes
            && !subject.starts_with('$')
            && queues.iter().all(|queue| queue.queue != subject) =>
        {
            Concern::Client
        }
        None => Concern::All,
        Some(bridge) if !publishes && bridge.subscriptions().iter().any(|own| own == subject) => {
            Concern::Bridge
        }
        // Only the bridge writes to a queue.
        Some(_) if publishes && queues.iter().any(|queue| queue.queue == subject) => Concern::Bridge,
        Some(_) if publishes && !subject.starts_with('$') => Concern::Client,
        Some(_) => Concern::All,
    }
}

/// The subject that a right is missing for, and whether it is the right to publish.
fn subject(complaint: &str) -> Option<(bool, &str)> {
    let (verb, rest) = complaint.split_once(" to \"")?;
    Some((verb.to_lowercase().ends_with("publish"), rest.split('"').next()?))
}

/// Whether only operations on dead letters, the audit and commands do that.
fn operates(queue: &Names, subject: &str) -> bool {
    let letters = [call::make_ephemeral(&queue.dead), call::delete_message(&queue.dead)];
    [
        queue.operations_subjects(),
        queue.audit_subjects(),
        queue.running_calls(),
        queue.cancelled_calls(),
        queue.cancels_subjects(),
    ]
    .iter()
    .any(|own| covers(own, subject))
        || [&queue.operations, &queue.audit, &queue.cancels()]
            .into_iter()
            .any(|own| stream(subject) == Some(own))
        || letters.iter().any(|call| subject.ends_with(&format!(".API.{call}")))
}

/// Whether the worker publishes there for the queue.
fn writes(queue: &Names, subject: &str) -> bool {
    covers(&queue.retries_subjects(), subject) || covers(&queue.dead_subjects(), subject)
}

/// The stream that a question to JetStream's API, or an acknowledgement, is about.
fn stream(subject: &str) -> Option<&str> {
    if let Some(rest) = subject.strip_prefix("$JS.ACK.") {
        // A longer one begins with a domain and an account.
        let tokens = rest.split('.').count();
        return rest.split('.').nth(if tokens > 7 { 2 } else { 0 });
    }
    let (_, call) = subject.split_once(".API.")?;
    CALLS.iter().find_map(|known| call.strip_prefix(known))?.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_concerns_the_queue_whose_subject_it_names() {
        let queues = [
            Names::new("faas-request", "faas-request"),
            Names::new("team.due", "OF_due"),
            Names::new("DUE", "DUE"),
        ];
        let bridge = Subjects::of("faas-cluster");
        let publish = |subject: &str| format!("Permissions Violation for Publish to \"{subject}\"");
        let subscribe = |subject: &str| {
            format!("Permissions Violation for Subscription to \"{subject}\" using queue \"queue-worker\"")
        };
        let operated = Concern::Operations("faas-request");
        let (first, second) = (Concern::Queue("faas-request"), Concern::Queue("team.due"));
        for (complaint, alone, beside_a_bridge) in [
            (publish("$JS.API.STREAM.INFO.faas-request"), first, first),
            (publish("$JS.API.STREAM.MSG.GET.faas-request-dead"), first, first),
            (publish("$JS.hub.API.CONSUMER.MSG.NEXT.OF_due.faas-workers"), second, second),
            (publish("$JS.API.CONSUMER.DURABLE.CREATE.team_due-retries.due"), second, second),
            (publish("$JS.API.CONSUMER.INFO.faas-request.OF_due"), first, first),
            (publish("$JS.ACK.faas-request-retries.due.1.2.3.4.5"), first, first),
            (publish("$JS.ACK.OF_due.HASH.faas-request.faas-workers.1.2.3.4.5"), first, first),
            (publish("$JS.API.CONSUMER.LIST.DUE"), Concern::Queue("DUE"), Concern::Queue("DUE")),
            (publish("faas-request-retries.at.f.1-a.1"), first, first),
            (publish("team.due-dead.f"), second, second),
            (subscribe("_INBOX.x.*"), Concern::All, Concern::All),
            (subscribe("$SRV.>"), Concern::Client, Concern::Client),
            (publish("$JS.API.STREAM.MSG.DELETE.faas-request-dead"), operated, operated),
            (publish("$JS.hub.API.CONSUMER.CREATE.faas-request-dead"), operated, operated),
            (publish("$JS.API.STREAM.MSG.GET.faas-request-operations"), operated, operated),
            (publish("faas-request-operations.x"), operated, operated),
            (publish("faas-request-audit.00ff"), operated, operated),
            (publish("$JS.API.DIRECT.GET.faas-request-audit"), operated, operated),
            (publish("$JS.API.STREAM.CREATE.faas-request-audit"), operated, operated),
            (publish("$JS.API.STREAM.INFO.unknown"), Concern::All, Concern::All),
            (subscribe("_STAN.discover.faas-cluster"), Concern::All, Concern::Bridge),
            (subscribe("_STAN.bridge.faas-cluster.>"), Concern::All, Concern::Bridge),
            (publish("team.due"), Concern::All, Concern::Bridge),
            (publish("_INBOX.of.a.client"), Concern::Client, Concern::Client),
            (subscribe("faas-request-calls.running"), operated, operated),
            ("authorization violation".to_owned(), Concern::All, Concern::All),
            ("Permissions Violation".to_owned(), Concern::All, Concern::All),
        ] {
            assert_eq!(concern(&complaint, &queues, None), alone, "{complaint}");
            assert_eq!(concern(&complaint, &queues, Some(&bridge)), beside_a_bridge, "{complaint}");
        }
    }
}
