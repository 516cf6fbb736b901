//! On how many servers a queue lies, and what a power failure takes.

use std::collections::BTreeSet;

use super::{super::finding::Finding, QueueView};
use crate::{
    broker::{
        jetstream::{Replica, StreamInfo},
        known_issues::{
            About, Facts as Advised,
            Severity::{Fail, Note, Warn},
            Sync, advice,
        },
    },
    text::duration::shown,
};

/// Whether each stream has a leader and the replicas that it wants, and they keep up.
pub fn replicas(view: &QueueView<'_>) -> Vec<Finding> {
    let mut findings: Vec<_> = view.queue.streams().flat_map(|info| of_stream(view, info)).collect();
    let alone: Vec<_> = view.queue.streams().filter(|info| info.config.replicas() == 1).collect();
    if let Some(info) = alone.first() {
        let names: Vec<_> = alone.iter().map(|info| info.config.name()).collect();
        let servers: BTreeSet<_> = alone.iter().flat_map(|info| view.broker.peers(info)).collect();
        let means = format!(
            "what they hold is lost with the disk of {}",
            servers.into_iter().collect::<Vec<_>>().join(", ")
        );
        let mend = if info.cluster.name.is_some() {
            names
                .iter()
                .map(|name| view.nats.edit_stream(name, "--replicas=3"))
                .collect::<Vec<_>>()
                .join(" && ")
        } else {
            "nats_stream_replicas=3   # with three servers in a cluster".to_owned()
        };
        findings.push(
            Finding::new(
                Note,
                format!("replicas of {}", view.queue.names.queue),
                format!("1 of {}", names.join(", ")),
                means,
            )
            .mend(mend),
        );
    }
    findings
}

fn of_stream(view: &QueueView<'_>, info: &StreamInfo) -> Vec<Finding> {
    let (name, wanted) = (info.config.name(), info.config.replicas());
    let what = format!("replicas of {name}");
    let peers = view.broker.peers(info);
    let there = peers.len() as u64;
    let mut findings = Vec::new();
    if info.cluster.name.is_some() && info.cluster.leader.is_none() {
        let means = "it takes nothing and gives nothing until most of its servers are back";
        findings.push(
            Finding::new(Fail, &what, "no leader", means)
                .mend("start the servers that are away; nats server check connection tells which answer"),
        );
    }
    for Replica { name: server, current, offline } in &info.cluster.replicas {
        let state = if *offline { "is offline" } else { "lags behind" };
        if *offline || !current {
            let means = "one server less can be lost until it is back";
            findings.push(
                Finding::new(Warn, &what, format!("{server} {state}"), means)
                    .mend(format!("start {server}, or mend its network; then {}", view.nats.show(name))),
            );
        }
    }
    if there < wanted && !findings.iter().any(|finding| finding.severity == Fail) {
        let means = "it is stored on fewer servers than it says";
        findings.push(
            Finding::new(Warn, &what, format!("{there} of {wanted}"), means)
                .mend(view.nats.edit_stream(name, &format!("--replicas={there}"))),
        );
    }
    let settings = u64::try_from(view.config.nats.stream_replicas).unwrap_or(1);
    if wanted < settings {
        let means =
            "the setting nats_stream_replicas holds for streams that a worker makes, and this one was there";
        let mend = view.nats.edit_stream(name, &format!("--replicas={settings}"));
        findings
            .push(Finding::new(Warn, &what, format!("{wanted}, and {settings} are set"), means).mend(mend));
    } else if wanted.is_multiple_of(2) {
        let means = "as few servers may be lost as with one replica less";
        findings.push(
            Finding::new(Note, &what, wanted.to_string(), means)
                .mend(view.nats.edit_stream(name, &format!("--replicas={}", wanted + 1))),
        );
    }
    if findings.is_empty() && wanted > 1 {
        findings.push(Finding::ok(what, peers.join(", ")));
    }
    findings
}

/// What a power failure takes from the queue.
pub fn power(view: &QueueView<'_>) -> Vec<Finding> {
    let what = format!("disk of {}", view.queue.names.queue);
    let Some((replicas, sync)) = view.broker.weakest(view.queue) else { return Vec::new() };
    let facts = Advised { server: view.broker.version, schedules: false, discard_new: false, replicas, sync };
    let seen = match sync {
        Sync::Always => "sync_interval: always".to_owned(),
        Sync::Every(interval) => format!("sync_interval: {}", shown(interval)),
        Sync::Unknown => {
            "sync_interval could not be seen: it stands on the servers' monitoring pages only".to_owned()
        }
    };
    let mend = match sync {
        Sync::Unknown => {
            "queue-worker doctor --monitor=http://nats:8222   # where the server has http_port: 8222"
        }
        _ => {
            "jetstream { sync_interval: always }   # in nats.conf, and restart the server; the chart's own \
                NATS has it"
        }
    };
    let lines = advice(&facts).into_iter().filter(|line| line.about == About::Power);
    let mut findings: Vec<_> =
        lines.map(|line| Finding::new(line.severity, &what, &seen, line.text).mend(mend)).collect();
    if findings.is_empty() {
        let means = format!(
            "{replicas} servers that lose their power at the same time can lose what they accepted last"
        );
        findings.push(if sync == Sync::Always {
            Finding::ok(what, seen)
        } else {
            Finding::new(Note, what, seen, means).mend(mend)
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{
        super::{
            super::facts::{Facts, Monitored},
            tests::{broker, check, queue},
        },
        *,
    };

    const REPLICAS: &str = "replicas of faas-request-retries";
    const ALONE: &str = "replicas of faas-request";
    const DISK: &str = "disk of faas-request";

    /// The stream of retries, with so many replicas and in this cluster.
    fn retries(facts: &mut Facts, replicas: u64, cluster: Value) {
        let info = queue(facts).retries.as_mut().unwrap().as_mut().unwrap();
        info.config.set("num_replicas", replicas);
        info.cluster = serde_json::from_value(cluster).unwrap();
    }

    #[test]
    fn a_stream_has_a_leader_and_its_replicas() {
        let peer = |name: &str| json!({ "name": name, "current": true });
        let with = |third: Value| json!({ "name": "c", "leader": "n1", "replicas": [peer("n2"), third] });
        let well = || json!({ "name": "c", "leader": "n1", "replicas": [peer("n2"), peer("n3")] });
        for (replicas, cluster, expected) in [
            (3, well(), [].as_slice()),
            (3, json!({ "name": "c", "replicas": [peer("n2"), peer("n3")] }), &[(REPLICAS, Fail)]),
            (3, with(json!({ "name": "n3", "current": true, "offline": true })), &[(REPLICAS, Warn)]),
            (3, with(json!({ "name": "n3", "current": false })), &[(REPLICAS, Warn)]),
            (3, json!({ "leader": "n1" }), &[(REPLICAS, Warn)]),
            (2, json!({ "name": "c", "leader": "n1", "replicas": [peer("n2")] }), &[(REPLICAS, Note)]),
            (1, json!({ "name": "c", "leader": "n1" }), &[(ALONE, Note)]),
        ] {
            check(&[], |facts| retries(facts, replicas, cluster), expected);
        }
        let expected = ["faas-request", "faas-request-retries", "faas-request-dead"]
            .map(|stream| format!("replicas of {stream}"));
        let expected: Vec<_> = expected.iter().map(|what| (what.as_str(), Warn)).collect();
        check(&[("nats_stream_replicas", "5")], |_| {}, &expected);
    }

    #[test]
    fn a_power_failure_takes_what_the_fewest_servers_have_not_written() {
        let every = |facts: &mut Facts, interval| {
            let sync = Sync::Every(Duration::from_secs(interval));
            broker(facts).monitored =
                ["n1", "n2", "n3"].map(|name| Monitored { name: name.to_owned(), sync }).into();
        };
        let found = check(&[], |facts| every(facts, 120), &[(DISK, Note)]);
        assert_eq!(found[0].seen, "sync_interval: 2m");
        let alone = || json!({ "name": "c", "leader": "n1" });
        check(&[], |facts| retries(facts, 1, alone()), &[(ALONE, Note)]);
        let both = [(ALONE, Note), (DISK, Warn)];
        let found = check(
            &[],
            |facts| {
                every(facts, 10);
                retries(facts, 1, alone());
            },
            &both,
        );
        assert!(found[1].means.contains("in the last 10s"), "{found:?}");
        let hidden = |facts: &mut Facts| {
            broker(facts).monitored.clear();
            retries(facts, 1, alone());
        };
        check(&[], hidden, &[(ALONE, Note), (DISK, Note)]);
    }
}
