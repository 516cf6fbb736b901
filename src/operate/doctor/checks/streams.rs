//! The streams of a queue against [`crate::broker::streams::rules`], and what brings its retries back.

use super::{
    super::{facts::Seen, finding::Finding},
    QueueView, hidden, hosted,
};
use crate::{
    broker::{
        jetstream::{Settings, StreamInfo, call},
        known_issues::{
            About, Facts as Advised,
            Severity::{self, Fail, Note, Warn},
            Sync, advice,
        },
        streams::{
            desired,
            rules::{self, Complaint},
        },
        timer_choice,
    },
    config::RetryTimer,
    message::timer::Timer,
    text::duration::shown,
};

/// From this share on a stream is nearly full.
const NEAR: f64 = 0.9;

/// The stream of fresh invocations.
pub fn queue(view: &QueueView<'_>) -> Vec<Finding> {
    let subject = view.queue.queue.subject();
    let wanted = desired::queue(view.config, &view.queue.queue);
    let judge = |stream: &Settings| {
        let weighed = |complaint: Complaint| match complaint.setting {
            "retention" => Complaint { severity: complaint.severity.max(view.shared()), ..complaint },
            _ => complaint,
        };
        rules::queue(stream, subject).into_iter().map(weighed).collect()
    };
    let means = "invocations are refused";
    judged(view, &view.queue.stream, &wanted, means, judge, |info| {
        fullness(view, info, "publishers are refused, and try again or not")
    })
}

/// The stream of parked retries.
pub fn retries(view: &QueueView<'_>) -> Vec<Finding> {
    let schedules = desired::schedules(view.config, view.broker.version).unwrap_or(false);
    let wanted = desired::retries(view.config, &view.queue.names, schedules);
    let means = "no retry can be parked, and messages stay where they are,";
    judged(view, &view.queue.retries, &wanted, means, rules::retries, |info| {
        let facts = Advised {
            server: view.broker.version,
            schedules: info.config.allows_schedules(),
            discard_new: info.config.refuses_new(),
            replicas: u64::MAX,
            sync: Sync::Unknown,
        };
        let lines = advice(&facts).into_iter().filter(|line| line.about == About::Discard);
        let name = &view.queue.names.retries;
        let mut findings: Vec<_> = lines
            .map(|line| {
                Finding::new(line.severity, format!("stream {name}"), "discard: new", line.text)
                    .mend(view.nats.edit_stream(name, "--discard=old"))
            })
            .collect();
        findings.extend(fullness(
            view,
            info,
            "no more can be parked: what fails is held back until there is room",
        ));
        findings.extend(stranger(view, info, &view.queue.names.retries_subjects()));
        findings.extend(window(view, info));
        findings
    })
}

/// The stream of dead letters.
pub fn dead(view: &QueueView<'_>) -> Vec<Finding> {
    if !view.config.dead_letters.enabled {
        return Vec::new();
    }
    let wanted = desired::dead(view.config, &view.queue.names);
    let means = "no dead letter can be kept, and what should become one waits in its worker,";
    judged(view, &view.queue.dead, &wanted, means, rules::dead, |info| {
        let means = if info.config.refuses_new() {
            "once it is full, what should become a dead letter waits in its worker, and is not called \
                again"
        } else {
            "the oldest dead letters are removed for new ones"
        };
        let mut findings = fullness(view, info, means);
        findings.extend(stranger(view, info, &view.queue.names.dead_subjects()));
        findings.extend(window(view, info));
        findings
    })
}

/// The complaints about a stream, or that it is as it should be.
fn judged(
    view: &QueueView<'_>,
    seen: &Seen<Option<StreamInfo>>,
    wanted: &Settings,
    missing: &str,
    rules: impl FnOnce(&Settings) -> Vec<Complaint>,
    more: impl FnOnce(&StreamInfo) -> Vec<Finding>,
) -> Vec<Finding> {
    let what = format!("stream {}", wanted.name());
    let info = match seen {
        Err(unseen) => return vec![hidden(what, unseen)],
        Ok(None) => return vec![absent(view, what, missing).mend(view.nats.make_stream(wanted))],
        Ok(Some(info)) => info,
    };
    let config = &info.config;
    let subject = view.queue.queue.subject();
    let complaint = |Complaint { severity, setting, found, text }| {
        let mend = if setting == "max_bytes" && hosted::wants_sizes(view) {
            view.nats.refuse_what_is_new(config)
        } else {
            view.nats.stream_setting(config, setting, subject)
        };
        Finding::new(severity, &what, format!("{setting}: {found}"), text).mend(mend)
    };
    let mut findings: Vec<_> = rules(config).into_iter().map(complaint).collect();
    findings.extend(more(info));
    if findings.is_empty() {
        let seen = format!(
            "{}, {}, {} messages",
            config.text("storage"),
            config.text("retention"),
            info.state.messages
        );
        findings.push(Finding::ok(what, seen));
    }
    findings
}

/// Something that is not there.
pub fn absent(view: &QueueView<'_>, what: String, means: &str) -> Finding {
    let who = if view.config.nats.manage {
        "a worker does when it starts"
    } else {
        "somebody does, since nats_manage=false"
    };
    Finding::new(Fail, what, "is not there", format!("{means} until it is made, as {who}"))
}

fn stranger(view: &QueueView<'_>, info: &StreamInfo, subjects: &str) -> Option<Finding> {
    let config = &info.config;
    let name = config.name();
    let reason = rules::stranger(name, config, subjects)?;
    Some(
        Finding::new(Fail, format!("stream {name}"), reason, "no worker can start")
            .mend(format!("queue_name={}-2   # any other name", view.queue.names.queue)),
    )
}

/// Whether ids are remembered long enough for a retry that is parked twice to be recognised.
fn window(view: &QueueView<'_>, info: &StreamInfo) -> Option<Finding> {
    let config = &info.config;
    let name = config.name();
    let (has, needs) = (config.duration("duplicate_window"), rules::duplicate_window(view.config.ack_wait));
    let needs = rules::possible_window(needs, config.duration("max_age"));
    let means = format!(
        "a message that is delivered again later than that may be parked or buried twice, and called twice; \
            {} are needed",
        shown(needs)
    );
    let mend = view.nats.edit_stream(name, &format!("--dupe-window={}", shown(needs)));
    (has < needs).then(|| {
        Finding::new(Warn, format!("stream {name}"), format!("duplicate_window: {}", shown(has)), means)
            .mend(mend)
    })
}

/// How full a stream with a limit is.
fn fullness(view: &QueueView<'_>, info: &StreamInfo, means: &str) -> Vec<Finding> {
    let config = &info.config;
    let name = config.name();
    let full = |(limit, held): (&str, u64)| {
        let most = config.limit(limit)?;
        let share = held as f64 / most as f64;
        let refuses = config.refuses_new();
        let severity = if share >= 1.0 && refuses { Fail } else { Warn };
        let flag = format!("--{}={}", limit.replace('_', "-"), most.saturating_mul(2));
        let finding =
            || Finding::new(severity, format!("stream {name}"), format!("{held} of {most} ({limit})"), means);
        (share >= NEAR).then(|| finding().mend(view.nats.edit_stream(name, &flag)))
    };
    [("max_msgs", info.state.messages), ("max_bytes", info.state.bytes)]
        .into_iter()
        .filter_map(full)
        .collect()
}

/// The timer of parked retries, and the retries that another timer has left.
pub fn timer(view: &QueueView<'_>) -> Vec<Finding> {
    let (config, queue) = (view.config, view.queue);
    let what = format!("timer of {}", queue.names.queue);
    let setting = config.retry_timer;
    let Ok(Some(info)) = &queue.retries else { return Vec::new() };
    let refused = |severity: Severity, reason: String, mend: String| {
        let means = if severity == Fail {
            "no worker can start"
        } else {
            "a worker turns them on when it starts, and uses levels where it may not"
        };
        vec![Finding::new(severity, &what, reason, means).mend(mend)]
    };
    let wants = match desired::schedules(config, view.broker.version) {
        Ok(wants) => wants,
        Err(reason) => return refused(Fail, reason, "retry_timer=auto".to_owned()),
    };
    let (allows, manage) = (info.config.allows_schedules(), config.nats.manage);
    // One that refuses what is new cannot have them, and levels do as well.
    let refuses = info.config.refuses_new();
    if refuses && !allows && setting == RetryTimer::Schedules {
        return refused(
            Fail,
            "a stream with discard=new cannot have message schedules".to_owned(),
            "retry_timer=auto".to_owned(),
        );
    }
    if wants && !allows && !refuses {
        let severity = if setting == RetryTimer::Schedules && !manage { Fail } else { Warn };
        let mend = view.nats.edit_stream(&queue.names.retries, "--allow-schedules");
        return refused(severity, "the stream does not allow message schedules".to_owned(), mend);
    }
    let (timer, why) = match timer_choice::choose(setting, view.broker.version, allows) {
        Ok(chosen) => chosen,
        Err(reason) => return refused(Fail, reason, "retry_timer=auto".to_owned()),
    };
    let seen = format!("{timer}: {why}");
    let in_levels: u64 = queue.levels.iter().flatten().map(|level| level.held).sum();
    vec![match (timer, in_levels, queue.held.clone().unwrap_or(false)) {
        (Timer::Schedules, 1.., _) => Finding::new(
            Note,
            what,
            format!("{seen}; {in_levels} retries lie in levels"),
            "a worker brings them, too, when they are due",
        ),
        (Timer::Levels, _, true) if !allows => {
            let means = "this server fires no schedules: a worker moves what they hold when it is overdue, \
                and needs the right to delete it";
            let right = view.nats.subject(&call::delete_message(&queue.names.retries));
            Finding::new(Note, what, format!("{seen}; schedules hold retries"), means)
                .mend(super::grant(&format!("publish to {right}")))
        }
        _ => Finding::ok(what, seen),
    }]
}

#[cfg(test)]
mod tests;
