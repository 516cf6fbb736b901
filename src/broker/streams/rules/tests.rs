use serde_json::{Value, json};

use super::*;

/// A setting that was found besides those that are as they should be, and what is complained of.
fn check(
    rule: impl Fn(&Settings) -> Vec<Complaint>,
    well: &Value,
    found: Value,
    expected: &[(&str, Severity)],
) {
    let mut settings = well.clone();
    settings.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
    let complaints = rule(&settings.into());
    let seen: Vec<_> = complaints.iter().map(|complaint| (complaint.setting, complaint.severity)).collect();
    assert_eq!(seen, expected, "{found}");
}

#[test]
fn a_queue_s_stream_keeps_what_it_took() {
    let well = json!({ "subjects": ["q"], "retention": "workqueue", "storage": "file", "discard": "old",
        "max_age": 0, "max_msgs": -1 });
    let rule = |found: &Settings| queue(found, "q");
    for (found, expected) in [
        (json!({}), [].as_slice()),
        (json!({ "subjects": [">"] }), &[]),
        (json!({ "subjects": ["other"] }), &[("subjects", Fail)]),
        (json!({ "subjects": null, "sources": [{ "name": "origin" }] }), &[("subjects", Note)]),
        (json!({ "subjects": null, "mirror": { "name": "origin" } }), &[("subjects", Note)]),
        (json!({ "storage": "memory" }), &[("storage", Fail)]),
        (json!({ "persist_mode": "async" }), &[("persist_mode", Fail)]),
        (json!({ "no_ack": true, "sealed": true }), &[("no_ack", Fail), ("sealed", Fail)]),
        (json!({ "retention": "limits" }), &[("retention", Note)]),
        (json!({ "retention": "interest" }), &[("retention", Warn)]),
        (
            json!({ "max_age": 1, "max_msgs": 1, "max_bytes": 1 }),
            &[("max_age", Fail), ("max_msgs", Fail), ("max_bytes", Fail)],
        ),
        (json!({ "max_age": 1, "max_msgs": 1, "max_bytes": 1, "discard": "new" }), &[("max_age", Fail)]),
        (json!({ "max_msgs_per_subject": 1, "discard": "new" }), &[("max_msgs_per_subject", Fail)]),
        (json!({ "max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": true }), &[]),
        (json!({ "max_msg_size": 1 }), &[]),
    ] {
        check(rule, &well, found, expected);
    }
}

#[test]
fn retries_have_no_limits_and_dead_letters_may() {
    let well = json!({ "retention": "workqueue", "storage": "file", "discard": "old", "max_age": 0,
        "max_msg_size": -1 });
    for (found, expected) in [
        (json!({}), [].as_slice()),
        (json!({ "retention": "interest" }), &[("retention", Fail)]),
        (json!({ "retention": "limits" }), &[("retention", Warn)]),
        (json!({ "max_age": 1 }), &[("max_age", Fail)]),
        (json!({ "max_msg_size": 9 }), &[("max_msg_size", Warn)]),
    ] {
        check(retries, &well, found, expected);
    }
    let well =
        json!({ "retention": "limits", "storage": "file", "discard": "old", "max_age": 1, "max_bytes": 1 });
    for (found, expected) in [
        (json!({}), [].as_slice()),
        (json!({ "storage": "memory" }), &[("storage", Fail)]),
        (json!({ "retention": "workqueue" }), &[("retention", Warn)]),
        (json!({ "retention": "interest" }), &[("retention", Fail)]),
        (json!({ "discard": "new" }), &[("discard", Warn)]),
        (json!({ "discard": "new", "max_age": 0, "max_bytes": -1 }), &[]),
    ] {
        check(dead, &well, found, expected);
    }
}

#[test]
fn a_consumer_gives_everything_until_it_is_acknowledged() {
    let stream = json!({ "subjects": ["q", "other"] }).into();
    let well = json!({ "filter_subject": "q", "ack_policy": "explicit", "max_deliver": -1 });
    let rule = |found: &Settings| consumer(found, "q", &stream);
    for (found, expected) in [
        (json!({}), [].as_slice()),
        (json!({ "filter_subject": "" }), &[("filter_subject", Warn)]),
        (json!({ "filter_subject": ">" }), &[("filter_subject", Warn)]),
        (json!({ "filter_subject": "other" }), &[("filter_subject", Fail)]),
        (json!({ "max_deliver": 7, "backoff": [1] }), &[("backoff", Warn), ("max_deliver", Fail)]),
        (
            json!({ "mem_storage": true, "inactive_threshold": 1 }),
            &[("mem_storage", Note), ("inactive_threshold", Note)],
        ),
    ] {
        check(rule, &well, found, expected);
    }
    let everything = json!({ "subjects": ["q"] }).into();
    check(|found| consumer(found, "q", &everything), &well, json!({ "filter_subject": "" }), &[]);
}

#[test]
fn what_cannot_be_pulled_from_is_told() {
    for (found, can) in [
        (json!({ "ack_policy": "explicit" }), true),
        (json!({ "ack_policy": "explicit", "deliver_subject": "x" }), false),
        (json!({ "ack_policy": "none" }), false),
        (json!({ "ack_policy": "explicit", "headers_only": true }), false),
        (json!({ "ack_policy": "explicit", "priority_groups": ["a"] }), false),
    ] {
        assert_eq!(unusable(&found.clone().into()).is_none(), can, "{found}");
    }
}

#[test]
fn a_lease_is_what_the_consumer_makes_of_it() {
    for (found, seconds) in [
        (json!({}), 30),
        (json!({ "ack_wait": 60_000_000_000_u64 }), 60),
        (json!({ "ack_wait": 60_000_000_000_u64, "backoff": [90_000_000_000_u64, 2_000_000_000] }), 2),
    ] {
        assert_eq!(lease(&found.clone().into()), Duration::from_secs(seconds), "{found}");
    }
    assert_eq!(duplicate_window(Duration::from_secs(60)), Duration::from_secs(600));
    assert_eq!(duplicate_window(Duration::from_secs(600)), Duration::from_secs(1800));
    assert_eq!(possible_window(DUPLICATE_WINDOW, Duration::from_secs(60)), Duration::from_secs(60));
}
