//! What redrives and the audit need. The queue is served without it.

use super::{super::finding::Finding, QueueView, grant, unknown};
use crate::{
    broker::{
        known_issues::Severity::{Note, Warn},
        streams::desired,
    },
    config::Audited,
    operate::doctor::facts::Unseen,
};

/// Whether this account may carry out what operators ask for.
pub fn rights(view: &QueueView<'_>) -> Vec<Finding> {
    if !view.config.dead_letters.enabled {
        return Vec::new();
    }
    let stream = &view.queue.names.operations;
    let what = format!("stream {stream}");
    vec![match &view.queue.operations {
        Ok(true) => Finding::ok(what, "there, and may be written"),
        Ok(false) => Finding::ok(what, "none yet: the first redrive makes it"),
        Err(Unseen::Right(right)) => {
            let means = "dead letters cannot be redriven or discarded by this account; calls go on";
            Finding::new(Note, what, format!("the right to {right} is missing"), means).mend(grant(right))
        }
        Err(unseen) => unknown(what, unseen),
    }]
}

/// Whether this account may write the audit that it is to write.
pub fn audit(view: &QueueView<'_>) -> Vec<Finding> {
    if view.config.audit.level == Audited::Nothing {
        return Vec::new();
    }
    let what = format!("stream {}", view.queue.names.audit);
    let means = "what becomes of calls is not recorded; calls go on";
    vec![match &view.queue.audit {
        Ok(true) => Finding::ok(what, "there, and may be written"),
        Ok(false) if view.config.nats.manage => {
            Finding::new(Note, what, "there is none: a worker makes it", means)
        }
        Ok(false) => {
            let settings = desired::audit(view.config, &view.queue.names);
            Finding::new(Warn, what, "there is none, and nats_manage=false", means)
                .mend(format!("create it as {settings}"))
        }
        Err(Unseen::Right(right)) => {
            Finding::new(Warn, what, format!("the right to {right} is missing"), means).mend(grant(right))
        }
        Err(unseen) => unknown(what, unseen),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{checks::tests::check, facts::Facts};

    #[test]
    fn an_audit_that_cannot_be_written_is_a_warning_and_no_more() {
        let found = |audit| move |facts: &mut Facts| facts.broker.as_mut().unwrap().queues[0].audit = audit;
        let missing = || Err(Unseen::Right("publish to faas-request-audit.actions".to_owned()));
        let all = ("audit", "all");
        check(&[all], found(missing()), &[("stream faas-request-audit", Warn)]);
        check(&[all], found(Ok(false)), &[("stream faas-request-audit", Note)]);
        check(&[all, ("nats_manage", "false")], found(Ok(false)), &[("stream faas-request-audit", Warn)]);
        check(&[all], found(Ok(true)), &[]);
        check(&[], found(missing()), &[]);
    }

    #[test]
    fn a_right_that_only_redrives_need_is_a_note() {
        let missing = || Err(Unseen::Right("publish to faas-request-operations._probe".to_owned()));
        let spoil = |facts: &mut crate::operate::doctor::facts::Facts| {
            facts.broker.as_mut().unwrap().queues[0].operations = missing();
        };
        check(&[], spoil, &[("stream faas-request-operations", Note)]);
        check(&[("dead_letters", "false")], spoil, &[("dead_letters", Warn)]);
        let away = |facts: &mut crate::operate::doctor::facts::Facts| {
            facts.broker.as_mut().unwrap().queues[0].operations = Ok(false);
        };
        check(&[], away, &[]);
    }
}
