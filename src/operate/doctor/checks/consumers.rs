//! The consumers of a queue against [`crate::broker::streams::rules`], and what nobody gets.

use super::{
    super::{facts::Seen, finding::Finding},
    QueueView, hidden, hosted,
    streams::absent,
    unknown,
};
use crate::{
    broker::{
        jetstream::{ConsumerInfo, Settings},
        known_issues::Severity::{Fail, Warn},
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
pub fn fresh(view: &QueueView<'_>) -> Vec<Finding> {
    // What is said of the stream says enough where it is not there.
    let Ok(Some(stream)) = &view.queue.stream else { return Vec::new() };
    judged(view, &view.queue.fresh, &Consumer::fresh(&view.queue.queue, &stream.config), &stream.config)
}

/// The consumer of due retries.
pub fn due(view: &QueueView<'_>) -> Vec<Finding> {
    let Ok(Some(stream)) = &view.queue.retries else { return Vec::new() };
    judged(view, &view.queue.due, &Consumer::due(&view.queue.names), &stream.config)
}

fn judged(
    view: &QueueView<'_>,
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
            let mend = match wanted.settings(view.config) {
                Some(settings) => view.nats.make_consumer(of, &settings),
                None => "nats_deliver=all   # or new: only what arrives from now on".to_owned(),
            };
            return vec![absent(view, what, means).mend(mend)];
        }
        Ok(Some(info)) => info,
    };
    let config = &info.config;
    if let Some(reason) = rules::unusable(config) {
        return vec![
            Finding::new(Fail, what, reason, "no worker can start").mend(view.nats.remake_consumer(of, name)),
        ];
    }
    let mend = |setting: &str| view.nats.consumer_setting(of, name, setting, filter, view.config);
    let complaint = |Complaint { severity, setting, found, text }| {
        Finding::new(severity, &what, format!("{setting}: {found}"), text).mend(mend(setting))
    };
    let mut findings: Vec<_> = rules::consumer(config, filter, stream).into_iter().map(complaint).collect();
    findings.extend(adapted(view, &what, config, mend));
    findings.extend(held_up(view, &what, wanted, info, stream, mend));
    if findings.is_empty() {
        let ConsumerInfo { num_pending, num_ack_pending, num_waiting, .. } = info;
        let seen = format!(
            "ack_wait {}, {num_pending} pending, {num_ack_pending} unacknowledged, {num_waiting} requests",
            shown(rules::lease(config))
        );
        findings.push(Finding::ok(what, seen));
    }
    findings
}

/// Settings that a worker changes when it starts, if it may.
fn adapted(
    view: &QueueView<'_>,
    what: &str,
    config: &Settings,
    mend: impl Fn(&str) -> String,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lease = rules::lease(config);
    for (setting, _) in rules::adaptations(config, view.config) {
        // Of an account that grants no more, the account's finding tells.
        if setting == "max_ack_pending" && hosted::has_all(config, view) {
            continue;
        }
        let short = setting == "ack_wait" && lease < LEAST_ACK_WAIT && !view.config.nats.manage;
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
                what,
                format!("{setting}: {}", config.shown(setting)),
                means,
            )
            .mend(mend(setting)),
        );
    }
    findings
}

/// A back-off, a pause or missing replicas, which keep a consumer from doing its work well.
fn held_up(
    view: &QueueView<'_>,
    what: &str,
    Consumer { stream: of, name, .. }: &Consumer,
    info: &ConsumerInfo,
    stream: &Settings,
    mend: impl Fn(&str) -> String,
) -> Vec<Finding> {
    let config = &info.config;
    let lease = rules::lease(config);
    let mut findings = Vec::new();
    if lease < LEAST_ACK_WAIT && config.get("backoff").is_some() {
        findings.push(
            Finding::new(
                Fail,
                what,
                format!("delivers again after {}", shown(lease)),
                "no call could keep its lease, and no worker starts",
            )
            .mend(mend("backoff")),
        );
    }
    if info.paused {
        findings.push(
            Finding::new(Warn, what, "paused", "nothing is called until it goes on")
                .mend(view.nats.resume(of, name)),
        );
    }
    let (own, streams) = (config.number("num_replicas"), stream.number("num_replicas"));
    if own > 0 && own < streams {
        let means = "what is acknowledged is known on fewer servers than the messages are: with those calls \
            are made again";
        findings.push(
            Finding::new(Warn, what, format!("num_replicas: {own}, the stream has {streams}"), means)
                .mend(mend("num_replicas")),
        );
    }
    findings
}

/// Whether retries are parked in levels, or will be when a worker has made their stream.
pub fn needs_levels(view: &QueueView<'_>) -> bool {
    let (setting, version) = (view.config.retry_timer, view.broker.version);
    let info = view.queue.retries.as_ref().ok().and_then(Option::as_ref);
    let (allows, refuses) =
        info.map_or((false, false), |info| (info.config.allows_schedules(), info.config.refuses_new()));
    // A worker turns on what is wanted and not there.
    let schedules = allows || (desired::schedules(view.config, version).unwrap_or(true) && !refuses);
    !timer_choice::choose(setting, version, schedules).is_ok_and(|(timer, _)| timer == Timer::Schedules)
}

/// The consumers of the levels, where retries are parked in them.
pub fn levels(view: &QueueView<'_>) -> Vec<Finding> {
    let names = &view.queue.names;
    let Ok(Some(info)) = &view.queue.retries else { return Vec::new() };
    if !needs_levels(view) {
        return Vec::new();
    }
    let found = match &view.queue.levels {
        Ok(found) => found,
        Err(unseen) => return vec![hidden(format!("consumers of {}", names.retries), unseen)],
    };
    let lacking = missing(found).map(|k| {
        let what = format!("consumer {} of {}", Names::level_consumer(k), names.retries);
        absent(view, what, "retries in this level wait")
            .mend(view.nats.make_consumer(&names.retries, &desired::level(names, k)))
    });
    let stream = &info.config;
    let complaints = found.iter().filter_map(|level| Some((level.k, level.settings.as_ref()?))).flat_map(
        |(k, settings)| {
            let (consumer, filter) = (Names::level_consumer(k), names.level_subjects(k));
            let complaints = rules::consumer(settings, &filter, stream).into_iter();
            complaints
                .map(|Complaint { severity, setting, found, text }| {
                    let mend =
                        view.nats.consumer_setting(&names.retries, &consumer, setting, &filter, view.config);
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
        Finding::new(Warn, what, seen, means).mend(view.nats.edit_consumer(&names.retries, &consumer, &flag))
    });
    let mut findings: Vec<_> = lacking.chain(complaints).chain(crowded).collect();
    if findings.is_empty() {
        findings
            .push(Finding::ok(format!("levels of {}", names.retries), format!("{} consumers", found.len())));
    }
    findings
}

/// Other consumers of the queue's stream.
pub fn others(view: &QueueView<'_>) -> Vec<Finding> {
    let what = format!("consumers of {}", view.queue.names.stream);
    match &view.queue.consumers {
        Err(unseen) if matches!(view.queue.stream, Ok(Some(_))) => vec![unknown(what, unseen)],
        Err(_) => Vec::new(),
        Ok(names) => {
            let others: Vec<_> =
                names.iter().filter(|name| **name != view.queue.queue.durable).map(String::as_str).collect();
            let means = "what they take of a work queue no worker of this queue gets";
            let mend = format!(
                "nats_durable={}   # if this is the one that the workers are to share",
                others.first().unwrap_or(&"")
            );
            let finding = || {
                Finding::new(view.shared(), &what, format!("also {}", others.join(", ")), means).mend(mend)
            };
            if others.is_empty() { Vec::new() } else { vec![finding()] }
        }
    }
}

/// Messages that nobody gets.
pub fn orphans(view: &QueueView<'_>) -> Vec<Finding> {
    let (names, durable) = (&view.queue.names, &view.queue.queue.durable);
    let what = format!("orphans in {}", names.stream);
    match view.queue.orphans {
        None => Vec::new(),
        Some(0) => vec![Finding::ok(what, "none: each message is pending or delivered")],
        Some(count) => {
            let means = "they are stored, and no worker gets them; NATS before 2.10 also keeps some that \
                were acknowledged";
            vec![
                Finding::new(Warn, what, format!("{count} messages"), means)
                    .mend(view.nats.remake_consumer(&names.stream, durable)),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
