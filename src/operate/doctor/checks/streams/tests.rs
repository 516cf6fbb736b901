use serde_json::{Value, json};

use super::{
    super::{
        super::facts::{Facts, QueueFacts},
        tests::{broker, check, queue as only},
    },
    *,
};
use crate::broker::{known_issues::Severity, levels::Level};

type Stream = fn(&mut QueueFacts) -> &mut Seen<Option<StreamInfo>>;

/// A stream with these settings and this state.
fn with(which: Stream, settings: Value, state: Value) -> impl FnOnce(&mut Facts) {
    move |facts| {
        let info = which(only(facts)).as_mut().unwrap().as_mut().unwrap();
        settings.as_object().unwrap().iter().for_each(|(name, value)| info.config.set(name, value.clone()));
        info.state = serde_json::from_value(state).unwrap();
    }
}

const QUEUE: Stream = |queue| &mut queue.stream;
const RETRIES: Stream = |queue| &mut queue.retries;
const DEAD: Stream = |queue| &mut queue.dead;

/// Checks the command for a stream of these settings, found under this name with this severity.
fn mends(which: Stream, settings: Value, found: (&str, Severity), mend: &str) {
    let found = check(&[], with(which, settings, json!({})), &[found]);
    assert_eq!(found[0].mend.as_deref(), Some(mend));
}

#[test]
fn each_complaint_about_the_queue_has_its_command() {
    mends(
        QUEUE,
        json!({ "subjects": ["other"] }),
        ("stream faas-request", Fail),
        "nats stream edit faas-request --subjects=other,faas-request --force",
    );
    mends(
        QUEUE,
        json!({ "max_age": 1 }),
        ("stream faas-request", Fail),
        "nats stream edit faas-request --max-age=0 --force",
    );
    mends(
        QUEUE,
        json!({ "storage": "memory" }),
        ("stream faas-request", Fail),
        "nats stream rm faas-request --force   # once it is empty; then a worker makes it anew, or \
                the doctor tells how",
    );
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
fn each_complaint_about_retries_and_dead_letters_has_its_command() {
    mends(
        RETRIES,
        json!({ "max_msgs": 9 }),
        ("stream faas-request-retries", Fail),
        "nats stream edit faas-request-retries --max-msgs=-1 --force",
    );
    mends(
        RETRIES,
        json!({ "no_ack": true }),
        ("stream faas-request-retries", Fail),
        "nats stream edit faas-request-retries --ack --force",
    );
    mends(
        RETRIES,
        json!({ "discard": "new" }),
        ("stream faas-request-retries", Fail),
        "nats stream edit faas-request-retries --discard=old --force",
    );
    mends(
        RETRIES,
        json!({ "duplicate_window": 1 }),
        ("stream faas-request-retries", Warn),
        "nats stream edit faas-request-retries --dupe-window=10m --force",
    );
    mends(
        RETRIES,
        json!({ "subjects": ["x"] }),
        ("stream faas-request-retries", Fail),
        "queue_name=faas-request-2   # any other name",
    );
    mends(
        RETRIES,
        json!({ "allow_msg_schedules": false }),
        ("timer of faas-request", Warn),
        "nats stream edit faas-request-retries --allow-schedules --force",
    );
    mends(
        DEAD,
        json!({ "max_msg_size": 9 }),
        ("stream faas-request-dead", Warn),
        "nats stream edit faas-request-dead --max-msg-size=-1 --force",
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
    let found = check(&[], full, &[("stream faas-request-dead", Warn), ("stream faas-request-dead", Fail)]);
    assert!(found.iter().all(|finding| finding.means.contains("waits in its worker")), "{found:?}");
}

#[test]
fn what_is_not_there_is_made_by_a_worker_or_by_hand() {
    let gone = |facts: &mut Facts| only(facts).dead = Ok(None);
    let found = check(&[], gone, &[("stream faas-request-dead", Fail)]);
    assert!(found[0].means.ends_with("a worker does when it starts"), "{found:?}");
    assert!(
        found[0].mend.as_ref().unwrap().starts_with("nats req '$JS.API.STREAM.CREATE.faas-request-dead' '{"),
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
