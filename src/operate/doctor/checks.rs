//! The checks: each looks at some of the facts and says what it found. Pure.

mod account;
mod broker;
mod cluster;
mod consumers;
mod gateway;
mod hosted;
mod operations;
mod pauses;
mod process;
mod streams;
mod targets;

use super::{
    facts::{Broker, Facts, QueueFacts, Unseen},
    finding::Finding,
    mend::Nats,
};
use crate::{broker::known_issues::Severity, config::Config};

/// A queue in its surroundings.
struct QueueView<'a> {
    config: &'a Config,
    broker: &'a Broker,
    queue: &'a QueueFacts,
    nats: Nats,
}

impl QueueView<'_> {
    /// How much it weighs that a stream may serve others, too. OpenFaaS's are made for the workers; the
    /// messages of a target often lie in a stream that was there before.
    fn shared(&self) -> Severity {
        if self.queue.queue.request.is_some() { Severity::Warn } else { Severity::Note }
    }
}

/// Whether the broker's version is known to lose messages.
pub(crate) fn is_lossy(config: &Config, broker: &Broker) -> bool {
    broker::versions(config, broker).iter().any(|finding| finding.severity == Severity::Fail)
}

/// Everything that the checks found, in the order in which they stand here.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let around = [
        process::settings,
        process::listening,
        process::grace,
        process::callbacks,
        gateway::health,
        gateway::lookup,
        broker::connection,
    ];
    let mut findings: Vec<_> = around.iter().flat_map(|check| check(facts)).collect();
    let Ok(broker) = &facts.broker else { return findings };
    let config = &facts.loaded.config;
    let broken = [broker::clock, broker::versions, broker::payload, broker::streaming, account::limits];
    findings.extend(broken.iter().flat_map(|check| check(config, broker)));
    let queued = [
        hosted::grants,
        targets::tokens,
        streams::queue,
        streams::retries,
        streams::dead,
        streams::timer,
        operations::rights,
        operations::audit,
        cluster::replicas,
        cluster::power,
        pauses::paused,
        consumers::fresh,
        consumers::due,
        consumers::levels,
        consumers::others,
        consumers::orphans,
    ];
    for queue in &broker.queues {
        let view = QueueView { config, broker, queue, nats: Nats::of(config) };
        findings.extend(queued.iter().flat_map(|check| check(&view)));
    }
    findings
}

/// Something that has to be seen, and was not.
fn hidden(what: impl Into<String>, unseen: &Unseen) -> Finding {
    let finding = Finding::new(
        Severity::Fail,
        what,
        format!("could not be seen: {unseen}"),
        "the worker cannot see it either",
    );
    match unseen {
        Unseen::Right(right) => finding.mend(grant(right)),
        Unseen::Silent(_) => finding,
    }
}

/// Something that was not seen, and that no worker needs to see.
fn unknown(what: impl Into<String>, unseen: &Unseen) -> Finding {
    Finding::new(
        Severity::Note,
        what,
        format!("could not be seen: {unseen}"),
        "no worker needs to; it is looked at where the account may",
    )
}

/// The line of a server's configuration that gives a right.
fn grant(right: &str) -> String {
    let (verb, subject) = right.split_once(" to ").unwrap_or(("publish", right));
    format!(
        "permissions: {{ {verb}: {{ allow: [\"{subject}\"] }} }}   # for the user in nats.conf, beside its \
            other rights"
    )
}

#[cfg(test)]
mod tests {
    use super::{super::facts::tests::well, *};
    use crate::broker::known_issues::Severity::{Fail, Note, Ok, Warn};

    /// The check's findings about a set-up that is well but for this change: `what` and how much it weighs,
    /// of each finding that is not as it should be; and each has a mend.
    pub fn check(
        set: &[(&str, &str)],
        spoil: impl FnOnce(&mut Facts),
        expected: &[(&str, Severity)],
    ) -> Vec<Finding> {
        let mut facts = well(set);
        spoil(&mut facts);
        let found: Vec<_> = findings(&facts).into_iter().filter(|finding| finding.severity > Ok).collect();
        let seen: Vec<_> = found.iter().map(|finding| (finding.what.as_str(), finding.severity)).collect();
        assert_eq!(seen, expected, "{found:#?}");
        for finding in &found {
            assert!(!finding.means.is_empty(), "{finding:?} means nothing");
            assert!(finding.severity < Warn || finding.mend.is_some(), "{finding:?} has no mend");
        }
        found
    }

    /// The broker that is connected to.
    pub fn broker(facts: &mut Facts) -> &mut Broker {
        facts.broker.as_mut().unwrap()
    }

    /// The only queue.
    pub fn queue(facts: &mut Facts) -> &mut QueueFacts {
        &mut broker(facts).queues[0]
    }

    #[test]
    fn where_all_is_well_nothing_is_said_against_it() {
        check(&[], |_| {}, &[]);
        check(&[("queue_name", "a,b.c"), ("nats_manage", "false")], |_| {}, &[]);
        check(
            &[("dead_letters", "false")],
            |facts| queue(facts).dead = std::result::Result::Ok(None),
            &[("dead_letters", Warn)],
        );
    }

    #[test]
    fn what_has_to_be_seen_and_is_not_fails() {
        let unseen = || Unseen::Right("publish to $JS.API.STREAM.INFO.faas-request".to_owned());
        let found = check(&[], |facts| queue(facts).stream = Err(unseen()), &[("stream faas-request", Fail)]);
        assert!(
            found[0]
                .mend
                .as_ref()
                .unwrap()
                .starts_with("permissions: { publish: { allow: [\"$JS.API.STREAM.INFO.faas-request\"] } }")
        );
        check(&[], |facts| broker(facts).account = Err(unseen()), &[("account", Note)]);
        check(&[], |facts| queue(facts).consumers = Err(unseen()), &[("consumers of faas-request", Note)]);
    }
}
