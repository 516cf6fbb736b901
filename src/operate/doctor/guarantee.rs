//! The guarantee, in plain words, from the facts.

use std::time::Duration;

use super::{
    checks,
    facts::{Broker, Facts, QueueFacts, Seen},
};
use crate::{
    broker::{
        jetstream::{ConsumerInfo, Settings, StreamInfo},
        known_issues::{SYNC_INTERVAL, Severity, Sync},
        streams::rules,
    },
    config::Config,
    retry::policy::RetryPolicy,
    text::duration::shown,
};

/// Whether what NATS accepted is still there afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// All of it.
    Yes,
    /// Not all of it, or not surely.
    Partly,
    /// Nothing of it, or not that of one of the queues.
    No,
    /// It could not be seen.
    Unknown,
}

/// One event and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guarantee {
    /// The event.
    pub event: &'static str,
    /// Whether accepted invocations survive it.
    pub survives: Survives,
    /// In words.
    pub text: String,
}

/// The guarantee, event by event.
pub fn guaranteed(facts: &Facts) -> Vec<Guarantee> {
    let config = &facts.loaded.config;
    let Ok(broker) = &facts.broker else {
        let text = "nothing is known of the broker".to_owned();
        return vec![Guarantee { event: "anything at all", survives: Survives::Unknown, text }];
    };
    vec![
        worker(config, broker),
        process(config, broker),
        power(broker),
        disk(broker),
        gateway(config),
        full(broker),
    ]
}

/// A worker is killed.
fn worker(config: &Config, broker: &Broker) -> Guarantee {
    let event = "a worker is killed";
    let consumers = || broker.queues.iter().flat_map(|queue| [&queue.fresh, &queue.due]);
    let ends = |info: &ConsumerInfo| {
        info.config.limit("max_deliver").is_some() || rules::unusable(&info.config).is_some()
    };
    if consumers().filter_map(|seen| seen.as_ref().ok()?.as_ref()).any(ends) {
        return Guarantee {
            event,
            survives: Survives::No,
            text: "no: a consumer gives messages up, or gives none".to_owned(),
        };
    }
    if consumers().any(Result::is_err) {
        return unseen(event);
    }
    let text =
        format!("yes: another takes over after {}; calls that ran are made again", shown(config.ack_wait));
    Guarantee { event, survives: Survives::Yes, text }
}

/// The broker's process is killed.
fn process(config: &Config, broker: &Broker) -> Guarantee {
    let event = "the broker's process is killed";
    let forgets = |StreamInfo { config, .. }: &StreamInfo| {
        let forgets = config.text("storage") == "memory" || config.text("persist_mode") == "async";
        forgets.then(|| config.name().to_owned())
    };
    let forgetful: Vec<_> = broker.queues.iter().flat_map(QueueFacts::streams).filter_map(forgets).collect();
    if !forgetful.is_empty() {
        return Guarantee {
            event,
            survives: Survives::No,
            text: format!("no: {} is lost, or the end of it", forgetful.join(", ")),
        };
    }
    if hidden(broker) {
        return unseen(event);
    }
    if checks::is_lossy(config, broker) {
        return Guarantee {
            event,
            survives: Survives::Partly,
            text: format!("not surely: NATS {} is known to lose messages then", broker.release),
        };
    }
    Guarantee { event, survives: Survives::Yes, text: "yes: the streams are on its disk".to_owned() }
}

/// The power of the broker's machines fails.
fn power(broker: &Broker) -> Guarantee {
    let event = "the power of the broker's machine fails, or its system crashes";
    if hidden(broker) {
        return unseen(event);
    }
    let lax = |sync: &Sync| match sync {
        Sync::Always => Duration::ZERO,
        Sync::Every(interval) => *interval,
        Sync::Unknown => Duration::MAX,
    };
    let weakest = broker.queues.iter().filter_map(|queue| broker.weakest(queue));
    // One server alone before many, and then the laxest.
    let Some((replicas, sync)) =
        weakest.min_by_key(|(replicas, sync)| (*replicas > 1, std::cmp::Reverse(lax(sync))))
    else {
        return unseen(event);
    };
    let (survives, text) = match (replicas, sync) {
        (_, Sync::Always) => {
            (Survives::Yes, "yes: it is on the disk before it is accepted (sync_interval: always)".to_owned())
        }
        (0 | 1, Sync::Every(interval)) => (
            Survives::Partly,
            format!(
                "up to the last {} may be lost (1 replica, sync_interval: {})",
                shown(interval),
                shown(interval)
            ),
        ),
        (0 | 1, Sync::Unknown) => (
            Survives::Partly,
            format!(
                "up to the last {} may be lost (1 replica) unless sync_interval is set to less, which could \
                    not be seen",
                shown(SYNC_INTERVAL)
            ),
        ),
        (_, sync) => {
            let interval = if let Sync::Every(interval) = sync { interval } else { SYNC_INTERVAL };
            (
                Survives::Partly,
                format!(
                    "yes, if it fails for one of the {replicas} servers at a time; for all at once, up to \
                        the last {} may be lost",
                    shown(interval)
                ),
            )
        }
    };
    Guarantee { event, survives, text }
}

/// A disk of the broker's is lost.
fn disk(broker: &Broker) -> Guarantee {
    let event = "a disk of the broker is lost";
    if hidden(broker) {
        return unseen(event);
    }
    let fewest =
        broker.queues.iter().filter_map(|queue| broker.weakest(queue)).map(|(replicas, _)| replicas).min();
    match fewest {
        None => unseen(event),
        Some(0 | 1) => Guarantee {
            event,
            survives: Survives::No,
            text: "no: what lies on it alone is lost (1 replica)".to_owned(),
        },
        Some(2) => Guarantee {
            event,
            survives: Survives::Partly,
            text: "yes, but with 2 replicas nothing is taken or given until it is back".to_owned(),
        },
        Some(replicas) => {
            let text = format!("yes: {} of {replicas} servers may be lost", (replicas - 1) / 2);
            Guarantee { event, survives: Survives::Yes, text }
        }
    }
}

/// The gateway or a function fails.
fn gateway(config: &Config) -> Guarantee {
    let event = "the gateway or a function fails";
    let (attempts, waits) = (config.retry.max_attempts, shown(waits(&config.retry)));
    let tries =
        format!("{attempts} attempts, with {waits} of waiting at most between the first and the last");
    let letters = &config.dead_letters;
    let (survives, text) = match letters.enabled {
        false => (Survives::Partly, format!("for {tries}; then it is dropped (dead_letters=false)")),
        true if letters.max_age.is_zero() && letters.max_bytes == 0 => {
            (Survives::Yes, format!("yes: {tries}; then it is a dead letter"))
        }
        true => (
            Survives::Yes,
            format!("yes: {tries}; then it is a dead letter, for as long as its stream keeps it"),
        ),
    };
    Guarantee { event, survives, text }
}

/// A stream reaches a limit.
fn full(broker: &Broker) -> Guarantee {
    let event = "more comes than is called";
    let limited =
        |queue: &QueueFacts| {
            let queued = config(&queue.stream).map(|stream| rules::queue(stream, queue.queue.subject()));
            let parked = config(&queue.retries).map(rules::retries);
            queued.into_iter().chain(parked).flatten().any(|complaint| {
                complaint.setting.starts_with("max_") && complaint.severity == Severity::Fail
            })
        };
    if broker.queues.iter().any(limited) {
        return Guarantee {
            event,
            survives: Survives::No,
            text: "no: a stream has a limit, and what exceeds it is lost".to_owned(),
        };
    }
    if hidden(broker) {
        return unseen(event);
    }
    let text =
        "yes: it waits in its stream; once the disk or a limit is reached, publishers are refused".to_owned();
    Guarantee { event, survives: Survives::Yes, text }
}

/// How long a message waits at most between its first and its last attempt.
fn waits(policy: &RetryPolicy) -> Duration {
    let mut total = Duration::ZERO;
    for delayed in 0..policy.max_attempts.saturating_sub(1) {
        let wait = policy.backoff.wait(delayed, 1.0);
        total = total.saturating_add(wait);
        if wait == policy.backoff.max || wait.is_zero() {
            // It grows no more.
            let rest = policy.max_attempts.saturating_sub(2).saturating_sub(delayed);
            return total.saturating_add(wait.saturating_mul(rest));
        }
    }
    total
}

/// The settings of a stream that was seen.
fn config(seen: &Seen<Option<StreamInfo>>) -> Option<&Settings> {
    seen.as_ref().ok()?.as_ref().map(|info| &info.config)
}

/// Whether a stream could not be seen, or is not there.
fn hidden(broker: &Broker) -> bool {
    let unseen = |seen: &Seen<Option<StreamInfo>>| config(seen).is_none();
    broker.queues.iter().any(|queue| unseen(&queue.stream) || unseen(&queue.retries))
}

fn unseen(event: &'static str) -> Guarantee {
    Guarantee {
        event,
        survives: Survives::Unknown,
        text: "not known: the streams could not be seen, or are not there yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::facts::{Monitored, Seen, Unseen, tests::well},
        *,
    };
    use crate::broker::jetstream::Cluster;
    use Survives::{No, Partly, Unknown, Yes};

    /// The survivors of each event in a set-up that is well but for this change, in the order of the events.
    fn check(spoil: impl FnOnce(&mut Facts), expected: [Survives; 6]) -> Vec<String> {
        let mut facts = well(&[]);
        spoil(&mut facts);
        let said = guaranteed(&facts);
        assert_eq!(said.iter().map(|line| line.survives).collect::<Vec<_>>(), expected, "{said:#?}");
        said.into_iter().map(|line| line.text).collect()
    }

    fn queue(facts: &mut Facts) -> &mut QueueFacts {
        &mut facts.broker.as_mut().unwrap().queues[0]
    }

    fn set(
        which: fn(&mut QueueFacts) -> &mut Seen<Option<StreamInfo>>,
        setting: &'static str,
        value: Value,
    ) -> impl FnOnce(&mut Facts) {
        move |facts| which(queue(facts)).as_mut().unwrap().as_mut().unwrap().config.set(setting, value)
    }

    /// One server, which writes this often.
    fn alone(facts: &mut Facts, sync: Sync) {
        let broker = facts.broker.as_mut().unwrap();
        broker.monitored = vec![Monitored { name: "n1".to_owned(), sync }];
        let queue = &mut broker.queues[0];
        for info in [&mut queue.stream, &mut queue.retries, &mut queue.dead] {
            info.as_mut().unwrap().as_mut().unwrap().cluster =
                Cluster { leader: Some("n1".to_owned()), ..Cluster::default() };
        }
    }

    #[test]
    fn three_servers_that_write_at_once_lose_nothing() {
        let texts = check(|_| {}, [Yes; 6]);
        assert!(texts[0].contains("after 1m"), "{texts:?}");
        assert!(texts[3].contains("1 of 3 servers"), "{texts:?}");
        assert!(texts[4].contains("10 attempts, with 12m30s of waiting"), "{texts:?}");
    }

    #[test]
    fn one_server_loses_its_disk_and_what_it_had_not_written() {
        check(|facts| alone(facts, Sync::Always), [Yes, Yes, Yes, No, Yes, Yes]);
        let texts = check(
            |facts| alone(facts, Sync::Every(Duration::from_secs(10))),
            [Yes, Yes, Partly, No, Yes, Yes],
        );
        assert!(texts[2].contains("up to the last 10s may be lost"), "{texts:?}");
        let texts = check(|facts| alone(facts, Sync::Unknown), [Yes, Yes, Partly, No, Yes, Yes]);
        assert!(texts[2].contains("up to the last 2m may be lost"), "{texts:?}");
        let texts = check(
            |facts| facts.broker.as_mut().unwrap().monitored.clear(),
            [Yes, Yes, Partly, Yes, Yes, Yes],
        );
        assert!(texts[2].contains("one of the 3 servers at a time"), "{texts:?}");
    }

    #[test]
    fn what_breaks_a_promise_is_not_promised() {
        check(
            |facts| queue(facts).fresh.as_mut().unwrap().as_mut().unwrap().config.set("max_deliver", 7),
            [No, Yes, Yes, Yes, Yes, Yes],
        );
        check(set(|queue| &mut queue.retries, "storage", json!("memory")), [Yes, No, Yes, Yes, Yes, Yes]);
        check(set(|queue| &mut queue.stream, "max_age", json!(1)), [Yes, Yes, Yes, Yes, Yes, No]);
        check(
            |facts| facts.broker.as_mut().unwrap().version = (2, 10, 21),
            [Yes, Partly, Yes, Yes, Yes, Yes],
        );
        let silent = || Unseen::Silent("no answer in time".to_owned());
        check(
            |facts| facts.broker.as_mut().unwrap().queues[0].stream = Err(silent()),
            [Yes, Unknown, Unknown, Unknown, Yes, Unknown],
        );
    }
}
