//! The broker itself.

use super::{
    super::{
        facts::{Away, Broker, Facts},
        finding::Finding,
    },
    unknown,
};
use crate::{
    broker::{
        clock::NOTABLE_SKEW,
        known_issues::{
            About, Facts as Advised,
            Severity::{Fail, Note, Warn},
            Sync, advice,
        },
    },
    config::Config,
    message::envelope::ROOM,
    text::duration::shown,
};

/// A message of less than this can hardly carry a body beside its headers.
const SMALL: u64 = 64 << 10;

/// Whether there is a connection, and to what.
pub fn connection(facts: &Facts) -> Vec<Finding> {
    let nats = &facts.loaded.config.nats;
    let servers = nats.servers.join(", ");
    vec![match &facts.broker {
        Ok(broker) => {
            let tls = if broker.tls { "TLS" } else { "no TLS" };
            Finding::ok(
                "NATS",
                format!("{} of server {} ({servers}), {}, {tls}", broker.release, broker.name, nats.login),
            )
        }
        Err(Away::Absent(reason)) => {
            let means = "nothing of it could be looked at; the worker waits for it";
            Finding::new(Fail, "NATS", format!("{servers}: {reason}"), means)
                .mend("nats_url=nats://nats.openfaas:4222   # wherever it is")
        }
        Err(Away::ForGood(error)) => {
            let means = "no worker can start";
            Finding::new(Fail, "NATS", format!("{servers}: {error}"), means).mend(
                "nats_creds_file=…, nats_user=…, nats_ca_file=…   # a login and certificates that the \
                    server takes",
            )
        }
    }]
}

/// Whether the clocks agree: due times are in the broker's time.
pub fn clock(_: &Config, broker: &Broker) -> Vec<Finding> {
    const MEND: &str = "timedatectl set-ntp true";
    vec![match broker.skew {
        Some(skew) if skew.is_zero() => Finding::ok("clocks", "in step"),
        Some(skew) if skew <= NOTABLE_SKEW => {
            Finding::ok("clocks", format!("{} apart at least", shown(skew)))
        }
        Some(skew) => {
            let means =
                "retries follow the broker's clock, but ages and HTTP dates are read by this machine's";
            Finding::new(Warn, "clocks", format!("{} apart at least", shown(skew)), means).mend(MEND)
        }
        None => Finding::new(
            Note,
            "clocks",
            "this server tells no time",
            "retries follow the workers' clocks, which have to agree",
        )
        .mend(MEND),
    }]
}

/// The known costs of the server's version.
pub fn versions(_: &Config, broker: &Broker) -> Vec<Finding> {
    let schedules = broker.queues.iter().any(|queue| {
        queue
            .retries
            .as_ref()
            .is_ok_and(|info| info.as_ref().is_some_and(|info| info.config.allows_schedules()))
    });
    let facts = Advised {
        server: broker.version,
        schedules,
        discard_new: false,
        replicas: u64::MAX,
        sync: Sync::Unknown,
    };
    let lines = advice(&facts).into_iter().filter(|line| line.about == About::Version);
    let mend = "run nats-server 2.15.2 with the same store   # in the chart: nats.image.tag=2.15.2-alpine";
    let mut findings: Vec<_> = lines
        .map(|line| Finding::new(line.severity, "version of NATS", &broker.release, line.text).mend(mend))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("version of NATS", &broker.release));
    }
    findings
}

/// Whether what is parked has room for its headers.
pub fn payload(_: &Config, broker: &Broker) -> Vec<Finding> {
    let (most, room) = (broker.max_payload, u64::try_from(ROOM).unwrap_or(u64::MAX));
    vec![if most >= SMALL {
        Finding::ok(
            "max_payload",
            format!("{most} bytes; up to {} are parked as they are, larger payloads compressed", most - room),
        )
    } else {
        let means = format!(
            "a parked message has up to {room} bytes of headers: large payloads fit nowhere, and are called \
                again and again"
        );
        Finding::new(Warn, "max_payload", format!("{most} bytes"), means)
            .mend("max_payload: 1MB   # in nats.conf, then nats-server --signal reload")
    }]
}

/// Whether gateways that speak NATS Streaming find the bridge and nothing else.
pub(crate) fn streaming(config: &Config, broker: &Broker) -> Vec<Finding> {
    let cluster = config.stan_cluster.as_deref().unwrap_or_default();
    match &broker.streaming {
        None => Vec::new(),
        Some(Ok(false)) => {
            vec![Finding::ok("NATS Streaming", format!("no other server answers for {cluster}"))]
        }
        Some(Ok(true)) => {
            let means = "gateways may publish to it, and nobody serves what they publish";
            vec![
                Finding::new(Fail, "NATS Streaming", format!("another server answers for {cluster}"), means)
                    .mend("stop it: kubectl scale deployment nats-streaming --replicas=0"),
            ]
        }
        Some(Err(unseen)) => vec![unknown("NATS Streaming", unseen)],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            super::facts::{Unseen, tests::well},
            findings,
            tests::{broker, check},
        },
        *,
    };
    use crate::{broker::connect::ConnectError, config::Login};

    #[test]
    fn without_a_connection_nothing_more_is_said() {
        for away in
            [Away::Absent("refused".to_owned()), Away::ForGood(ConnectError::LoginRefused(Login::None))]
        {
            let mut facts = well(&[]);
            facts.broker = Err(away);
            let findings = findings(&facts);
            assert_eq!(
                findings.last().map(|finding| (finding.what.as_str(), finding.severity)),
                Some(("NATS", Fail))
            );
        }
    }

    #[test]
    fn clocks_have_to_agree() {
        for (skew, expected) in [
            (Some(Duration::from_secs(2)), [].as_slice()),
            (Some(Duration::from_secs(3)), &[("clocks", Warn)]),
            (None, &[("clocks", Note)]),
        ] {
            check(&[], |facts| broker(facts).skew = skew, expected);
        }
    }

    #[test]
    fn versions_are_judged_as_the_worker_does() {
        check(&[], |facts| broker(facts).version = (2, 12, 8), &[("version of NATS", Fail)]);
        check(&[("retry_timer", "levels")], |facts| broker(facts).version = (2, 14, 0), &[]);
    }

    #[test]
    fn a_small_payload_leaves_no_room() {
        check(&[], |facts| broker(facts).max_payload = SMALL, &[]);
        check(&[], |facts| broker(facts).max_payload = SMALL - 1, &[("max_payload", Warn)]);
    }

    #[test]
    fn another_streaming_server_takes_messages_away() {
        for (seen, expected) in [
            (Ok(false), [].as_slice()),
            (Ok(true), &[("NATS Streaming", Fail)]),
            (Err(Unseen::Silent("no".to_owned())), &[("NATS Streaming", Note)]),
        ] {
            check(&[("stan_bridge", "true")], |facts| broker(facts).streaming = Some(seen), expected);
        }
    }
}
