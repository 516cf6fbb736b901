//! What redrives need. The queue is served without it.

use super::{super::finding::Finding, QueueView, grant, unknown};
use crate::{broker::known_issues::Severity::Note, operate::doctor::facts::Unseen};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::known_issues::Severity::Warn, operate::doctor::checks::tests::check};

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
