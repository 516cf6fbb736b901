//! The streams of a queue against [`crate::broker::streams::rules`], and what brings its retries back.

use serde_json::Value;

use super::{
    super::{facts::Seen, finding::Finding},
    Look, hidden, hosted,
};
use crate::{
    broker::{
        jetstream::{allows_schedules, number},
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
pub fn queue(look: &Look<'_>) -> Vec<Finding> {
    let subject = look.queue.queue.subject();
    let wanted = desired::queue(look.config, &look.queue.queue);
    let judge = |stream: &Value| rules::queue(stream, subject);
    let means = "invocations are refused";
    judged(look, &look.queue.stream, &wanted, means, judge, |info| {
        fullness(look, info, "publishers are refused, and try again or not")
    })
}

/// The stream of parked retries.
pub fn retries(look: &Look<'_>) -> Vec<Finding> {
    let schedules = desired::schedules(look.config, look.broker.version).unwrap_or(false);
    let wanted = desired::retries(look.config, &look.queue.names, schedules);
    let means = "no retry can be parked, and messages stay where they are,";
    judged(look, &look.queue.retries, &wanted, means, rules::retries, |info| {
        let config = info.get("config").unwrap_or(&Value::Null);
        let facts = Advised {
            server: look.broker.version,
            schedules: allows_schedules(info),
            discard_new: rules::text(config, "discard") == "new",
            replicas: u64::MAX,
            sync: Sync::Unknown,
        };
        let lines = advice(&facts).into_iter().filter(|line| line.about == About::Discard);
        let name = &look.queue.names.retries;
        let mut findings: Vec<_> = lines
            .map(|line| {
                Finding::new(line.severity, format!("stream {name}"), "discard: new", line.text)
                    .mend(look.nats.edit_stream(name, "--discard=old"))
            })
            .collect();
        findings.extend(fullness(
            look,
            info,
            "no more can be parked: what fails is held back until there is room",
        ));
        findings.extend(stranger(look, info, &look.queue.names.retries_subjects()));
        findings.extend(window(look, info));
        findings
    })
}

/// The stream of dead letters.
pub fn dead(look: &Look<'_>) -> Vec<Finding> {
    if !look.config.dead_letters.enabled {
        return Vec::new();
    }
    let wanted = desired::dead(look.config, &look.queue.names);
    let means = "no dead letter can be kept, and what should become one waits in its worker,";
    judged(look, &look.queue.dead, &wanted, means, rules::dead, |info| {
        let means = match rules::text(info.get("config").unwrap_or(&Value::Null), "discard") {
            "new" => {
                "once it is full, what should become a dead letter waits in its worker, and is not called \
                    again"
            }
            _ => "the oldest dead letters are removed for new ones",
        };
        let mut findings = fullness(look, info, means);
        findings.extend(stranger(look, info, &look.queue.names.dead_subjects()));
        findings.extend(window(look, info));
        findings
    })
}

/// What a stream has against it, or that it is as it should be.
fn judged(
    look: &Look<'_>,
    seen: &Seen<Option<Value>>,
    wanted: &Value,
    missing: &str,
    rules: impl FnOnce(&Value) -> Vec<Complaint>,
    more: impl FnOnce(&Value) -> Vec<Finding>,
) -> Vec<Finding> {
    let what = format!("stream {}", rules::text(wanted, "name"));
    let info = match seen {
        Err(unseen) => return vec![hidden(what, unseen)],
        Ok(None) => return vec![absent(look, what, missing).mend(look.nats.make_stream(wanted))],
        Ok(Some(info)) => info,
    };
    let config = info.get("config").unwrap_or(&Value::Null);
    let subject = look.queue.queue.subject();
    let complaint = |Complaint { severity, setting, found, text }| {
        let mend = if setting == "max_bytes" && hosted::wants_sizes(look) {
            look.nats.refuse_what_is_new(config)
        } else {
            look.nats.stream_setting(config, setting, subject)
        };
        Finding::new(severity, &what, format!("{setting}: {found}"), text).mend(mend)
    };
    let mut findings: Vec<_> = rules(config).into_iter().map(complaint).collect();
    findings.extend(more(info));
    if findings.is_empty() {
        let seen = format!(
            "{}, {}, {} messages",
            rules::text(config, "storage"),
            rules::text(config, "retention"),
            number(info, "/state/messages")
        );
        findings.push(Finding::ok(what, seen));
    }
    findings
}

/// What is not there.
pub fn absent(look: &Look<'_>, what: String, means: &str) -> Finding {
    let who = if look.config.nats.manage {
        "a worker does when it starts"
    } else {
        "somebody does, since nats_manage=false"
    };
    Finding::new(Fail, what, "is not there", format!("{means} until it is made, as {who}"))
}

fn stranger(look: &Look<'_>, info: &Value, subjects: &str) -> Option<Finding> {
    let config = info.get("config")?;
    let name = rules::text(config, "name");
    let reason = rules::stranger(name, config, subjects)?;
    Some(
        Finding::new(Fail, format!("stream {name}"), reason, "no worker can start")
            .mend(format!("queue_name={}-2   # any other name", look.queue.names.queue)),
    )
}

/// Whether ids are remembered long enough for a retry that is parked twice to be recognised.
fn window(look: &Look<'_>, info: &Value) -> Option<Finding> {
    let config = info.get("config")?;
    let name = rules::text(config, "name");
    let (has, needs) =
        (rules::duration(config, "duplicate_window"), rules::duplicate_window(look.config.ack_wait));
    let needs = rules::possible_window(needs, rules::duration(config, "max_age"));
    let means = format!(
        "a message that is delivered again later than that may be parked or buried twice, and called twice; \
            {} are needed",
        shown(needs)
    );
    let mend = look.nats.edit_stream(name, &format!("--dupe-window={}", shown(needs)));
    (has < needs).then(|| {
        Finding::new(Warn, format!("stream {name}"), format!("duplicate_window: {}", shown(has)), means)
            .mend(mend)
    })
}

/// How full a stream with a limit is.
fn fullness(look: &Look<'_>, info: &Value, means: &str) -> Vec<Finding> {
    let config = info.get("config").unwrap_or(&Value::Null);
    let name = rules::text(config, "name");
    let full = |(limit, held): (&str, &str)| {
        let most = u64::try_from(rules::number(config, limit)).ok().filter(|most| *most > 0)?;
        let held = number(info, held);
        let share = held as f64 / most as f64;
        let refuses = rules::text(config, "discard") == "new";
        let severity = if share >= 1.0 && refuses { Fail } else { Warn };
        let flag = format!("--{}={}", limit.replace('_', "-"), most.saturating_mul(2));
        let finding =
            || Finding::new(severity, format!("stream {name}"), format!("{held} of {most} ({limit})"), means);
        (share >= NEAR).then(|| finding().mend(look.nats.edit_stream(name, &flag)))
    };
    [("max_msgs", "/state/messages"), ("max_bytes", "/state/bytes")].into_iter().filter_map(full).collect()
}

/// What brings parked retries back, and what another timer has left.
pub fn timer(look: &Look<'_>) -> Vec<Finding> {
    let (config, queue) = (look.config, look.queue);
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
    let wants = match desired::schedules(config, look.broker.version) {
        Ok(wants) => wants,
        Err(reason) => return refused(Fail, reason, "retry_timer=auto".to_owned()),
    };
    let (allows, manage) = (allows_schedules(info), config.nats.manage);
    // One that refuses what is new cannot have them, and levels do as well.
    let refuses = rules::text(info.get("config").unwrap_or(&Value::Null), "discard") == "new";
    if refuses && !allows && setting == RetryTimer::Schedules {
        return refused(
            Fail,
            "a stream with discard=new cannot have message schedules".to_owned(),
            "retry_timer=auto".to_owned(),
        );
    }
    if wants && !allows && !refuses {
        let severity = if setting == RetryTimer::Schedules && !manage { Fail } else { Warn };
        let mend = look.nats.edit_stream(&queue.names.retries, "--allow-schedules");
        return refused(severity, "the stream does not allow message schedules".to_owned(), mend);
    }
    let (timer, why) = match timer_choice::choose(setting, look.broker.version, allows) {
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
            let right =
                format!("publish to {}", format_args!("$JS.API.STREAM.MSG.DELETE.{}", queue.names.retries));
            Finding::new(Note, what, format!("{seen}; schedules hold retries"), means)
                .mend(super::grant(&right))
        }
        _ => Finding::ok(what, seen),
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            super::facts::{Facts, QueueFacts},
            tests::{broker, check, queue as only},
        },
        *,
    };
    use crate::broker::levels::Level;

    type Stream = fn(&mut QueueFacts) -> &mut Seen<Option<Value>>;

    /// A stream with these settings and this state.
    fn with(which: Stream, settings: Value, state: Value) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let info = which(only(facts)).as_mut().unwrap().as_mut().unwrap();
            info["config"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            info["state"].as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        }
    }

    const QUEUE: Stream = |queue| &mut queue.stream;
    const RETRIES: Stream = |queue| &mut queue.retries;
    const DEAD: Stream = |queue| &mut queue.dead;

    #[test]
    fn each_complaint_has_its_command() {
        for (which, settings, what, severity, mend) in [
            (
                QUEUE,
                json!({ "subjects": ["other"] }),
                "stream faas-request",
                Fail,
                "nats stream edit faas-request --subjects=other,faas-request --force",
            ),
            (
                QUEUE,
                json!({ "max_age": 1 }),
                "stream faas-request",
                Fail,
                "nats stream edit faas-request --max-age=0 --force",
            ),
            (
                QUEUE,
                json!({ "storage": "memory" }),
                "stream faas-request",
                Fail,
                "nats stream rm faas-request --force   # once it is empty; then a worker makes it anew, or \
                    the doctor tells how",
            ),
            (
                RETRIES,
                json!({ "max_msgs": 9 }),
                "stream faas-request-retries",
                Fail,
                "nats stream edit faas-request-retries --max-msgs=-1 --force",
            ),
            (
                RETRIES,
                json!({ "no_ack": true }),
                "stream faas-request-retries",
                Fail,
                "nats stream edit faas-request-retries --ack --force",
            ),
            (
                RETRIES,
                json!({ "discard": "new" }),
                "stream faas-request-retries",
                Fail,
                "nats stream edit faas-request-retries --discard=old --force",
            ),
            (
                RETRIES,
                json!({ "duplicate_window": 1 }),
                "stream faas-request-retries",
                Warn,
                "nats stream edit faas-request-retries --dupe-window=10m --force",
            ),
            (
                RETRIES,
                json!({ "subjects": ["x"] }),
                "stream faas-request-retries",
                Fail,
                "queue_name=faas-request-2   # any other name",
            ),
            (
                RETRIES,
                json!({ "allow_msg_schedules": false }),
                "timer of faas-request",
                Warn,
                "nats stream edit faas-request-retries --allow-schedules --force",
            ),
            (
                DEAD,
                json!({ "max_msg_size": 9 }),
                "stream faas-request-dead",
                Warn,
                "nats stream edit faas-request-dead --max-msg-size=-1 --force",
            ),
        ] {
            let found = check(&[], with(which, settings, json!({})), &[(what, severity)]);
            assert_eq!(found[0].mend.as_deref(), Some(mend));
        }
        let found = check(
            &[("nats_js_domain", "hub")],
            with(QUEUE, json!({ "max_age": 1 }), json!({})),
            &[("stream faas-request", Fail)],
        );
        assert_eq!(
            found[0].mend.as_deref(),
            Some("nats --js-domain=hub stream edit faas-request --max-age=0 --force")
        );
    }

    #[test]
    fn what_is_full_is_told_before_it_is() {
        let (what, limits) = ("stream faas-request", json!({ "max_msgs": 100, "discard": "new" }));
        for (messages, expected) in [(89, [].as_slice()), (90, &[(what, Warn)]), (100, &[(what, Fail)])] {
            check(&[], with(QUEUE, limits.clone(), json!({ "messages": messages })), expected);
        }
        check(
            &[],
            with(DEAD, json!({ "max_bytes": 10 }), json!({ "bytes": 10 })),
            &[("stream faas-request-dead", Warn)],
        );
        let full = with(DEAD, json!({ "max_bytes": 10, "discard": "new" }), json!({ "bytes": 10 }));
        let found =
            check(&[], full, &[("stream faas-request-dead", Warn), ("stream faas-request-dead", Fail)]);
        assert!(found.iter().all(|finding| finding.means.contains("waits in its worker")), "{found:?}");
    }

    #[test]
    fn what_is_not_there_is_made_by_a_worker_or_by_hand() {
        let gone = |facts: &mut Facts| only(facts).dead = Ok(None);
        let found = check(&[], gone, &[("stream faas-request-dead", Fail)]);
        assert!(found[0].means.ends_with("a worker does when it starts"), "{found:?}");
        assert!(
            found[0]
                .mend
                .as_ref()
                .unwrap()
                .starts_with("nats req '$JS.API.STREAM.CREATE.faas-request-dead' '{"),
            "{found:?}"
        );
        let found = check(&[("nats_manage", "false")], gone, &[("stream faas-request-dead", Fail)]);
        assert!(found[0].means.ends_with("since nats_manage=false"), "{found:?}");
    }

    #[test]
    fn what_another_timer_left_is_told() {
        let level = Level { k: 3, held: 7, floor: 0, settings: None };
        check(&[], |facts| only(facts).levels = Ok(vec![level.clone()]), &[("timer of faas-request", Note)]);
        let all: Vec<_> = (0..=crate::message::timer::HIGHEST)
            .map(|k| Level { k, held: 0, floor: 0, settings: None })
            .collect();
        let old = |facts: &mut Facts| {
            broker(facts).version = (2, 11, 0);
            only(facts).levels = Ok(all);
            only(facts).held = Ok(true);
            with(RETRIES, json!({ "allow_msg_schedules": false }), json!({}))(facts);
        };
        check(&[], old, &[("timer of faas-request", Note)]);
        let old = |facts: &mut Facts| broker(facts).version = (2, 12, 8);
        check(
            &[("retry_timer", "schedules")],
            old,
            &[("version of NATS", Fail), ("timer of faas-request", Fail)],
        );
    }
}
