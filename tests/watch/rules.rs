//! The rules by themselves: what promtool and the documentation say.

use crate::{ALERTS, prometheus::promtool, read};

/// What stands behind a key, in each rule that has it.
fn values(key: &str) -> Vec<String> {
    let rules = read(ALERTS);
    rules
        .lines()
        .filter_map(|line| Some(line.trim_start_matches([' ', '-']).strip_prefix(key)?.trim().to_owned()))
        .collect()
}

#[test]
fn promtool_takes_the_rules() {
    promtool(&["check", "rules", ALERTS]);
}

#[test]
fn each_alert_fires_after_its_time_and_no_other_one_does() {
    promtool(&["test", "rules", "tests/watch/alerts.yaml"]);
}

#[test]
fn each_alert_leads_to_a_section_of_the_runbook_and_says_how_bad_it_is() {
    let names = values("alert:");
    assert!(names.len() > 5, "{names:?}");
    let links: Vec<_> =
        names.iter().map(|name| format!("docs/operating.md#{}", name.to_lowercase())).collect();
    assert_eq!(values("runbook_url:"), links);
    let runbook = read("docs/operating.md");
    let sections: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("### QueueWorker")).collect();
    assert_eq!(
        sections,
        names.iter().map(|name| name.strip_prefix("QueueWorker").unwrap()).collect::<Vec<_>>()
    );
    let severities = values("labels:");
    assert_eq!(severities.len(), names.len());
    assert!(
        severities
            .iter()
            .all(|labels| ["{severity: critical}", "{severity: warning}"].contains(&labels.as_str())),
        "{severities:?}"
    );
}

#[test]
fn each_alert_is_tried_by_promtool_and_alive() {
    let (cases, live) = (read("tests/watch/alerts.yaml"), read("tests/watch/alerts.rs"));
    for name in values("alert:") {
        assert!(
            cases.contains(&format!("alertname=\"{name}\"")),
            "{name} is in no case of tests/watch/alerts.yaml"
        );
        assert!(live.contains(&format!("\"{name}\"")), "{name} is in no test of tests/watch/alerts.rs");
    }
}
