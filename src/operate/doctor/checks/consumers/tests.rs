//! Consumers that are well, changed by others, or gone.

use serde_json::{Value, json};

use super::{
    super::{
        super::facts::Facts,
        tests::{broker, check, queue},
    },
    *,
};
use crate::broker::known_issues::Severity::Note;

const WORKERS: &str = "consumer faas-workers of faas-request";

/// The consumer of fresh invocations with these settings.
fn with(settings: Value) -> impl FnOnce(&mut Facts) {
    move |facts| {
        let info = queue(facts).fresh.as_mut().unwrap().as_mut().unwrap();
        settings.as_object().unwrap().iter().for_each(|(name, value)| info.config.set(name, value.clone()));
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
            found[0].mend.as_ref().unwrap().starts_with("nats consumer rm faas-request faas-workers --force")
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
    let found = check(&[("nats_manage", "false")], gone, &[("consumer due of faas-request-retries", Fail)]);
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
    let others =
        |facts: &mut Facts| queue(facts).consumers = Ok(vec!["faas-workers".to_owned(), "mine".to_owned()]);
    check(&[], others, &[("consumers of faas-request", Note)]);
    check(&[], |facts| queue(facts).orphans = Some(3), &[("orphans in faas-request", Warn)]);
    check(&[], |facts| queue(facts).orphans = None, &[]);
}
