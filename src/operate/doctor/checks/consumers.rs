//! The consumers of a queue against [`crate::broker::streams::rules`], and what nobody gets.

use super::{
    super::{facts::Seen, finding::Finding},
    Look, hidden, hosted,
    streams::absent,
    unknown,
};
use crate::{
    broker::{
        jetstream::{ConsumerInfo, Settings},
        known_issues::Severity::{Fail, Note, Warn},
        levels::{absent as missing, room},
        streams::{
            desired::{self, Consumer},
            rules::{self, Complaint, LEAST_ACK_WAIT},
        },
        timer_choice,
    },
    message::{names::Names, timer::Timer},
    text::duration::shown,
};

/// The consumer of fresh invocations.
pub fn fresh(look: &Look<'_>) -> Vec<Finding> {
    // What is said of the stream says enough where it is not there.
    let Ok(Some(stream)) = &look.queue.stream else { return Vec::new() };
    judged(look, &look.queue.fresh, &Consumer::fresh(&look.queue.queue, &stream.config), &stream.config)
}

/// The consumer of due retries.
pub fn due(look: &Look<'_>) -> Vec<Finding> {
    let Ok(Some(stream)) = &look.queue.retries else { return Vec::new() };
    judged(look, &look.queue.due, &Consumer::due(&look.queue.names), &stream.config)
}

fn judged(
    look: &Look<'_>,
    seen: &Seen<Option<ConsumerInfo>>,
    wanted: &Consumer,
    stream: &Settings,
) -> Vec<Finding> {
    let Consumer { stream: of, name, filter, .. } = wanted;
    let what = format!("consumer {name} of {of}");
    let info = match seen {
        Err(unseen) => return vec![hidden(what, unseen)],
        Ok(None) => {
            let means = "nothing is called";
            let mend = match wanted.settings(look.config) {
                Some(settings) => look.nats.make_consumer(of, &settings),
                None => "nats_deliver=all   # or new: only what arrives from now on".to_owned(),
            };
            return vec![absent(look, what, means).mend(mend)];
        }
        Ok(Some(info)) => info,
    };
    let config = &info.config;
    if let Some(reason) = rules::unusable(config) {
        return vec![
            Finding::new(Fail, what, reason, "no worker can start").mend(look.nats.remake_consumer(of, name)),
        ];
    }
    let mend = |setting: &str| look.nats.consumer_setting(of, name, setting, filter, look.config);
    let complaint = |Complaint { severity, setting, found, text }| {
        Finding::new(severity, &what, format!("{setting}: {found}"), text).mend(mend(setting))
    };
    let mut findings: Vec<_> = rules::consumer(config, filter, stream).into_iter().map(complaint).collect();
    let lease = rules::lease(config);
    for (setting, _) in rules::adaptations(config, look.config) {
        // Of an account that grants no more, the account's finding tells.
        if setting == "max_ack_pending" && hosted::has_all(config, look) {
            continue;
        }
        let short = setting == "ack_wait" && lease < LEAST_ACK_WAIT && !look.config.nats.manage;
        let means = match setting {
            "ack_wait" if short => "no call could keep its lease, and no worker starts",
            "ack_wait" => {
                "it is not the worker's setting; all workers of the queue share it, and a worker sets it \
                    when it starts"
            }
            _ => "one worker can take all of its room; a worker raises it when it starts",
        };
        findings.push(
            Finding::new(
                if short { Fail } else { Warn },
                &what,
                format!("{setting}: {}", config.shown(setting)),
                means,
            )
            .mend(mend(setting)),
        );
    }
    if lease < LEAST_ACK_WAIT && config.get("backoff").is_some() {
        findings.push(
            Finding::new(
                Fail,
                &what,
                format!("delivers again after {}", shown(lease)),
                "no call could keep its lease, and no worker starts",
            )
            .mend(mend("backoff")),
        );
    }
    if info.paused {
        findings.push(
            Finding::new(Warn, &what, "paused", "nothing is called until it goes on")
                .mend(look.nats.resume(of, name)),
        );
    }
    let (own, streams) = (config.number("num_replicas"), stream.number("num_replicas"));
    if own > 0 && own < streams {
        let means = "what is acknowledged is known on fewer servers than the messages are: with those calls \
            are made again";
        findings.push(
            Finding::new(Warn, &what, format!("num_replicas: {own}, the stream has {streams}"), means)
                .mend(mend("num_replicas")),
        );
    }
    if findings.is_empty() {
        let ConsumerInfo { num_pending, num_ack_pending, num_waiting, .. } = info;
        let seen = format!(
            "ack_wait {}, {num_pending} pending, {num_ack_pending} unacknowledged, {num_waiting} requests",
            shown(lease)
        );
        findings.push(Finding::ok(what, seen));
    }
    findings
}

/// Whether retries are parked in levels, or will be when a worker has made their stream.
pub fn needs_levels(look: &Look<'_>) -> bool {
    let (setting, version) = (look.config.retry_timer, look.broker.version);
    let info = look.queue.retries.as_ref().ok().and_then(Option::as_ref);
    let (allows, refuses) =
        info.map_or((false, false), |info| (info.config.allows_schedules(), info.config.refuses_new()));
    // A worker turns on what is wanted and not there.
    let schedules = allows || (desired::schedules(look.config, version).unwrap_or(true) && !refuses);
    !timer_choice::choose(setting, version, schedules).is_ok_and(|(timer, _)| timer == Timer::Schedules)
}

/// The consumers of the levels, where retries are parked in them.
pub fn levels(look: &Look<'_>) -> Vec<Finding> {
    let names = &look.queue.names;
    let Ok(Some(info)) = &look.queue.retries else { return Vec::new() };
    if !needs_levels(look) {
        return Vec::new();
    }
    let found = match &look.queue.levels {
        Ok(found) => found,
        Err(unseen) => return vec![hidden(format!("consumers of {}", names.retries), unseen)],
    };
    let lacking = missing(found).map(|k| {
        let what = format!("consumer {} of {}", Names::level_consumer(k), names.retries);
        absent(look, what, "retries in this level wait")
            .mend(look.nats.make_consumer(&names.retries, &desired::level(names, k)))
    });
    let stream = &info.config;
    let complaints = found.iter().filter_map(|level| Some((level.k, level.settings.as_ref()?))).flat_map(
        |(k, settings)| {
            let (consumer, filter) = (Names::level_consumer(k), names.level_subjects(k));
            let complaints = rules::consumer(settings, &filter, stream).into_iter();
            complaints
                .map(|Complaint { severity, setting, found, text }| {
                    let mend =
                        look.nats.consumer_setting(&names.retries, &consumer, setting, &filter, look.config);
                    Finding::new(
                        severity,
                        format!("consumer {consumer} of {}", names.retries),
                        format!("{setting}: {found}"),
                        text,
                    )
                    .mend(mend)
                })
                .collect::<Vec<_>>()
        },
    );
    let crowded = found.iter().filter(|level| room::is_crowded(level)).map(|level| {
        let consumer = Names::level_consumer(level.k);
        let (what, seen) = (
            format!("consumer {consumer} of {}", names.retries),
            format!(
                "{} \
            retries",
                level.held
            ),
        );
        let means = "more than its max_ack_pending: those behind are late until others leave; a worker \
            raises it, unless it may not";
        let flag = format!("--max-pending={}", room::MOST);
        Finding::new(Warn, what, seen, means).mend(look.nats.edit_consumer(&names.retries, &consumer, &flag))
    });
    let mut findings: Vec<_> = lacking.chain(complaints).chain(crowded).collect();
    if findings.is_empty() {
        findings
            .push(Finding::ok(format!("levels of {}", names.retries), format!("{} consumers", found.len())));
    }
    findings
}

/// Other consumers of the queue's stream.
pub fn others(look: &Look<'_>) -> Vec<Finding> {
    let what = format!("consumers of {}", look.queue.names.stream);
    match &look.queue.consumers {
        Err(unseen) if matches!(look.queue.stream, Ok(Some(_))) => vec![unknown(what, unseen)],
        Err(_) => Vec::new(),
        Ok(names) => {
            let others: Vec<_> =
                names.iter().filter(|name| **name != look.queue.queue.durable).map(String::as_str).collect();
            let means = "what they take of a work queue no worker of this queue gets";
            let mend = format!(
                "nats_durable={}   # if this is the one that the workers are to share",
                others.first().unwrap_or(&"")
            );
            let finding =
                || Finding::new(Note, &what, format!("also {}", others.join(", ")), means).mend(mend);
            if others.is_empty() { Vec::new() } else { vec![finding()] }
        }
    }
}

/// Messages that nobody gets.
pub fn orphans(look: &Look<'_>) -> Vec<Finding> {
    let (names, durable) = (&look.queue.names, &look.queue.queue.durable);
    let what = format!("orphans in {}", names.stream);
    match look.queue.orphans {
        None => Vec::new(),
        Some(0) => vec![Finding::ok(what, "none: each message is pending or delivered")],
        Some(count) => {
            let means = "they are stored, and no worker gets them; NATS before 2.10 also keeps some that \
                were acknowledged";
            vec![
                Finding::new(Warn, what, format!("{count} messages"), means)
                    .mend(look.nats.remake_consumer(&names.stream, durable)),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            super::facts::Facts,
            tests::{broker, check, queue},
        },
        *,
    };

    const WORKERS: &str = "consumer faas-workers of faas-request";

    /// The consumer of fresh invocations with these settings.
    fn with(settings: Value) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let info = queue(facts).fresh.as_mut().unwrap().as_mut().unwrap();
            settings
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(name, value)| info.config.set(name, value.clone()));
        }
    }

    #[test]
    fn each_complaint_has_its_command() {
        for (settings, severity, mend) in [
            (
                json!({ "filter_subject": "other" }),
                Fail,
                "nats consumer edit faas-request faas-workers --filter=faas-request --force",
            ),
            (
                json!({ "max_deliver": 7 }),
                Fail,
                "nats consumer edit faas-request faas-workers --max-deliver=-1 --force",
            ),
            (
                json!({ "backoff": [2_000_000_000_u64] }),
                Warn,
                "nats consumer edit faas-request faas-workers --backoff=none --force",
            ),
            (
                json!({ "ack_wait": 30_000_000_000_u64 }),
                Warn,
                "nats consumer edit faas-request faas-workers --wait=1m --force",
            ),
            (
                json!({ "max_ack_pending": 10 }),
                Warn,
                "nats consumer edit faas-request faas-workers --max-pending=200 --force",
            ),
            (
                json!({ "inactive_threshold": 1 }),
                Note,
                "nats consumer edit faas-request faas-workers --inactive-threshold=8760h --force",
            ),
            (
                json!({ "num_replicas": 1 }),
                Warn,
                "nats consumer edit faas-request faas-workers --replicas=0 --force",
            ),
        ] {
            let found = check(&[], with(settings), &[(WORKERS, severity)]);
            assert_eq!(found[0].mend.as_deref(), Some(mend));
        }
        for settings in [json!({ "deliver_subject": "x" }), json!({ "headers_only": true })] {
            let found = check(&[], with(settings), &[(WORKERS, Fail)]);
            assert!(
                found[0]
                    .mend
                    .as_ref()
                    .unwrap()
                    .starts_with("nats consumer rm faas-request faas-workers --force")
            );
        }
        check(&[], with(json!({ "backoff": [1_000_000] })), &[(WORKERS, Warn), (WORKERS, Fail)]);
        let hasty = || with(json!({ "ack_wait": 1_000_000 }));
        check(&[], hasty(), &[(WORKERS, Warn)]);
        check(&[("nats_manage", "false")], hasty(), &[(WORKERS, Fail)]);
    }

    #[test]
    fn one_that_is_paused_goes_on_by_command() {
        let paused = |facts: &mut Facts| queue(facts).fresh.as_mut().unwrap().as_mut().unwrap().paused = true;
        let found = check(&[], paused, &[(WORKERS, Warn)]);
        assert_eq!(found[0].mend.as_deref(), Some("nats consumer resume faas-request faas-workers --force"));
    }

    #[test]
    fn one_that_is_not_there_is_made_by_a_worker_or_by_hand() {
        let gone = |facts: &mut Facts| queue(facts).due = Ok(None);
        check(&[], gone, &[("consumer due of faas-request-retries", Fail)]);
        let found =
            check(&[("nats_manage", "false")], gone, &[("consumer due of faas-request-retries", Fail)]);
        assert!(
            found[0].mend.as_ref().unwrap().contains("CONSUMER.DURABLE.CREATE.faas-request-retries.due"),
            "{found:?}"
        );
        let told = |facts: &mut Facts| {
            queue(facts).stream.as_mut().unwrap().as_mut().unwrap().config.set("retention", "limits");
            queue(facts).fresh = Ok(None);
        };
        let found = check(&[], told, &[("stream faas-request", Note), (WORKERS, Fail)]);
        assert!(found[1].mend.as_ref().unwrap().starts_with("nats_deliver="), "{found:?}");
    }

    #[test]
    fn levels_have_a_consumer_each() {
        let all = (0..=crate::message::timer::HIGHEST)
            .filter(|k| *k != 3)
            .map(|k| crate::broker::levels::Level { k, held: 0, floor: 0, settings: None })
            .collect();
        let old = |facts: &mut Facts| {
            broker(facts).version = (2, 11, 0);
            queue(facts).retries.as_mut().unwrap().as_mut().unwrap().config.set("allow_msg_schedules", false);
            queue(facts).levels = Ok(all);
        };
        check(&[], old, &[("consumer l3 of faas-request-retries", Fail)]);
    }

    #[test]
    fn a_level_that_holds_more_than_it_has_places_for_is_told() {
        for (held, expected) in
            [(10_000, [].as_slice()), (10_001, &[("consumer l3 of faas-request-retries", Warn)])]
        {
            let crowded = |facts: &mut Facts| {
                broker(facts).version = (2, 11, 0);
                let queue = queue(facts);
                queue.retries.as_mut().unwrap().as_mut().unwrap().config.set("allow_msg_schedules", false);
                let level = &mut queue.levels.as_mut().unwrap()[3];
                (level.held, level.settings) = (held, Some(desired::level(&queue.names, 3)));
            };
            check(&[], crowded, expected);
        }
    }

    #[test]
    fn what_others_take_and_what_nobody_gets_is_told() {
        let others = |facts: &mut Facts| {
            queue(facts).consumers = Ok(vec!["faas-workers".to_owned(), "mine".to_owned()])
        };
        check(&[], others, &[("consumers of faas-request", Note)]);
        check(&[], |facts| queue(facts).orphans = Some(3), &[("orphans in faas-request", Warn)]);
        check(&[], |facts| queue(facts).orphans = None, &[]);
    }
}
