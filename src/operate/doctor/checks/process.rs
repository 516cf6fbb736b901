//! The worker's own settings and what is around it.

use super::super::{facts::Facts, finding::Finding};
use crate::{
    broker::known_issues::Severity::{Fail, Note, Warn},
    config::Doubt,
    tasks::drain::{FLUSH, HAND_BACK},
    text::duration::shown,
};

/// How long Kubernetes waits after SIGTERM unless told otherwise.
const KUBERNETES_WAITS: u64 = 30;

/// Settings that mean nothing, and settings that cost a promise.
pub fn settings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts
        .loaded
        .notes
        .iter()
        .map(|note| Finding::new(Note, "settings", note, "it makes no difference here"))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok("settings", "each is understood"));
    }
    let doubt = |doubt: &Doubt| Finding::new(Warn, doubt.setting, doubt.seen, doubt.means).mend(doubt.mend);
    findings.extend(facts.loaded.doubts.iter().map(doubt));
    if !facts.loaded.config.dead_letters.enabled {
        let means = "what ends without success is dropped, and only counted";
        findings.push(Finding::new(Warn, "dead_letters", "false", means).mend("dead_letters=true"));
    }
    findings
}

/// Whether the worker can listen, or does.
pub(crate) fn listening(facts: &Facts) -> Vec<Finding> {
    let address = facts.loaded.config.listen_addr;
    vec![match &facts.place.ready {
        None => Finding::ok("worker", format!("none runs here: {address} is free")),
        Some(Ok((200, _))) => Finding::ok("worker", format!("ready at {address}")),
        Some(Ok((503, reason))) => {
            let means = "the worker here takes no messages; others may";
            Finding::new(Warn, "worker", reason, means).mend("see the findings below; else its log")
        }
        Some(other) => {
            let seen = match other {
                Ok((status, _)) => format!("{address} answers {status}"),
                Err(unseen) => format!("{address}: {unseen}"),
            };
            Finding::new(
                Fail,
                "listen_addr",
                seen,
                "something else listens there, so that no worker can start",
            )
            .mend("listen_addr=0.0.0.0:8082")
        }
    }]
}

/// Whether a drain may take the time that it takes.
pub fn grace(facts: &Facts) -> Vec<Finding> {
    let config = &facts.loaded.config;
    let (grace, call) = (config.shutdown_grace, config.upstream_timeout);
    let needs = (grace + HAND_BACK + FLUSH).as_secs_f64().ceil();
    let seen = format!("{}; a drain takes {needs} s at most", shown(grace));
    let mut findings = Vec::new();
    if facts.place.kubernetes && needs > KUBERNETES_WAITS as f64 {
        let means = "a Pod that is given less time is killed in its drain, and its calls are made again; \
            from inside it cannot be seen \
                     what it is given (the chart gives 10 s more than shutdown_grace)";
        let patch = format!(
            "{{\"spec\":{{\"template\":{{\"spec\":{{\"terminationGracePeriodSeconds\":{needs}}}}}}}}}"
        );
        findings.push(
            Finding::new(Note, "shutdown_grace", &seen, means)
                .mend(format!("kubectl patch deployment queue-worker -p '{patch}'")),
        );
    }
    if call > grace {
        let means =
            format!("a call may take {}: one that outlasts a drain is cut off and made again", shown(call));
        findings.push(
            Finding::new(Note, "shutdown_grace", &seen, means)
                .mend(format!("shutdown_grace={}", shown(call))),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("shutdown_grace", seen));
    }
    findings
}

/// The needs of callbacks on this machine.
pub fn callbacks(facts: &Facts) -> Vec<Finding> {
    let (place, settings) = (&facts.place, &facts.loaded.config.callback);
    let mut findings = Vec::new();
    if let Some(error) = &place.secrets {
        let means = "callbacks cannot be signed, and no worker starts";
        let mend = "openssl rand -base64 24 >FILE   # the file of callback_signing_secret_file";
        findings.push(Finding::new(Fail, "callback_signing_secret_file", error, means).mend(mend));
    }
    if settings.tls_insecure {
        let means = "a callback may go to whoever stands between here and its receiver";
        findings.push(Finding::new(Warn, "tls_insecure", "true", means).mend("tls_insecure=false"));
    }
    if !place.proxies.is_empty() {
        let means = "callbacks go through these proxies; calls and NATS do not";
        findings.push(Finding::new(Note, "callbacks", place.proxies.join(", "), means));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::{
                facts::{Unseen, tests::well},
                finding::Finding,
            },
            tests::check,
        },
        *,
    };
    use crate::broker::known_issues::Severity::Ok as Well;

    #[test]
    fn what_listens_where_the_worker_does_is_a_worker() {
        let seen = |ready| check(&[], |facts| facts.place.ready = ready, &[]);
        seen(None);
        seen(Some(Ok((200, "ready".to_owned()))));
        for (ready, expected) in [
            (Ok((503, "queue faas-request: starting".to_owned())), ("worker", Warn)),
            (Ok((404, String::new())), ("listen_addr", Fail)),
            (Err(Unseen::Silent("no answer in time".to_owned())), ("listen_addr", Fail)),
        ] {
            check(&[], |facts| facts.place.ready = Some(ready), &[expected]);
        }
    }

    #[test]
    fn what_was_set_and_hardly_does_what_was_meant_is_told() {
        let found = check(&[("faas_nats_address", "nats")], |_| {}, &[("faas_nats_address", Warn)]);
        assert!(found[0].mend.as_ref().unwrap().starts_with("stan_bridge=true"), "{found:?}");
    }

    #[test]
    fn a_drain_is_given_its_time() {
        let graces = |set: &[(&str, &str)], kubernetes| {
            let mut facts = well(set);
            facts.place.kubernetes = kubernetes;
            grace(&facts)
                .into_iter()
                .map(|Finding { severity, mend, .. }| (severity, mend))
                .collect::<Vec<_>>()
        };
        let long = [("shutdown_grace", "5m")];
        assert_eq!(graces(&long, false), [(Well, None)]);
        let patch = r#"kubectl patch deployment queue-worker -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":304}}}}'"#;
        assert_eq!(graces(&long, true), [(Note, Some(patch.to_owned()))]);
        assert_eq!(
            graces(&[("upstream_timeout", "1m")], true),
            [(Note, Some("shutdown_grace=1m".to_owned()))],
            "29 s are less than Kubernetes' 30"
        );
    }

    #[test]
    fn what_costs_a_callback_something_is_said() {
        check(
            &[],
            |facts| facts.place.secrets = Some("no such file".to_owned()),
            &[("callback_signing_secret_file", Fail)],
        );
        check(&[("tls_insecure", "true")], |_| {}, &[("tls_insecure", Warn)]);
        check(&[], |facts| facts.place.proxies = vec!["HTTPS_PROXY"], &[("callbacks", Note)]);
    }
}
