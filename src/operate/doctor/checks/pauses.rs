//! What an operator has paused: it stays so until somebody resumes it.

use super::{super::finding::Finding, QueueView, unknown};
use crate::{broker::known_issues::Severity::Note, message::pause::Pause};

/// What is paused of a queue.
pub fn paused(view: &QueueView<'_>) -> Vec<Finding> {
    let queue = &view.queue.names.queue;
    let pauses = match &view.queue.paused {
        Ok(pauses) => pauses,
        Err(unseen) => return vec![unknown(format!("pauses of {queue}"), unseen)],
    };
    let of = |what: String, flag: String, pause: &Pause| {
        let since = pause
            .since
            .map_or_else(String::new, |since| format!(" since {}", humantime::format_rfc3339_seconds(since)));
        let reason = pause.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let means = "no new call of it begins until somebody resumes it";
        let resume = format!("queue-worker queue resume --queue {queue}{flag}");
        Finding::new(Note, what, format!("paused{since} by {}{reason}", pause.by), means).mend(resume)
    };
    let whole = pauses.queue.iter().map(|pause| of(format!("queue {queue}"), String::new(), pause));
    let functions = pauses.functions.iter().map(|(function, pause)| {
        of(format!("function {function} of {queue}"), format!(" --function {function}"), pause)
    });
    whole.chain(functions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::doctor::{checks::tests::check, facts::Unseen};

    #[test]
    fn a_pause_is_a_note_and_so_is_one_that_cannot_be_seen() {
        let paused = |facts: &mut crate::operate::doctor::facts::Facts| {
            let pauses = facts.broker.as_mut().unwrap().queues[0].paused.as_mut().unwrap();
            pauses.queue = Some(Pause::default());
            pauses.functions.insert("f".to_owned(), Pause::default());
        };
        check(&[], paused, &[("queue faas-request", Note), ("function f of faas-request", Note)]);
        let unseen = |facts: &mut crate::operate::doctor::facts::Facts| {
            facts.broker.as_mut().unwrap().queues[0].paused = Err(Unseen::Silent("no answer".to_owned()));
        };
        check(&[], unseen, &[("pauses of faas-request", Note)]);
    }
}
