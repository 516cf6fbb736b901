//! The targets of messages that name no function.

use super::{super::finding::Finding, QueueView};
use crate::broker::known_issues::Severity::Warn;

/// Whether every subject that the consumer takes has the tokens that the target's URL wants.
pub fn tokens(view: &QueueView<'_>) -> Vec<Finding> {
    let queue = &view.queue.queue;
    let Some(target) = queue.form.target() else { return Vec::new() };
    let (what, url, filter) = (format!("target of {}", queue.name), target.url(), &queue.filter_subject);
    let Some(missing) = target.unsure_token() else {
        return vec![Finding::ok(what, format!("{} {url}", method(view)))];
    };
    let seen = format!("{url} wants {{{missing}}}, and subjects of {filter} may have no such token");
    let means = "a message on such a subject cannot be called, and becomes a dead letter";
    let given = filter.split('.').filter(|token| *token == "*").count();
    let words = vec!["*"; url.tokens().saturating_sub(given)].join(".");
    let mend = format!("nats_filter_subject={}   # one word for each token", filter.replace('>', &words));
    vec![Finding::new(Warn, what, seen, means).mend(mend)]
}

fn method<'v>(view: &'v QueueView<'_>) -> &'v str {
    view.queue.queue.request.as_ref().map_or("POST", |request| request.method.as_str())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};
    use crate::broker::known_issues::Severity::Note;

    #[test]
    fn a_subject_without_the_token_is_warned_about() {
        let settings = |filter, url| {
            [
                ("input", "http"),
                ("queue_name", "orders"),
                ("nats_filter_subject", filter),
                ("target_url", url),
            ]
        };
        check(&settings("orders.*", "http://shop/{1}"), |_| {}, &[]);
        check(&settings("orders.>", "http://shop/{1}"), |_| {}, &[]);
        let expected = [("target of orders", Warn)];
        let found = check(&settings("orders.*.>", "http://shop/{1}/{3}?key=x"), |_| {}, &expected);
        assert_eq!(
            (found[0].seen.as_str(), found[0].mend.as_deref()),
            (
                "http://shop/{1}/{3} wants {3}, and subjects of orders.*.> may have no such token",
                Some("nats_filter_subject=orders.*.*.*   # one word for each token")
            )
        );
    }

    #[test]
    fn a_stream_that_others_use_weighs_more_than_one_of_openfaas() {
        let settings = [("input", "http"), ("queue_name", "orders"), ("target_url", "http://shop/")];
        let others = |facts: &mut super::super::Facts| {
            let queue = super::super::tests::queue(facts);
            queue.consumers = Ok(vec!["faas-workers".to_owned(), "mine".to_owned()]);
            let stream = queue.stream.as_mut().unwrap().as_mut().unwrap();
            stream.config.set("retention", "limits");
        };
        check(&settings, others, &[("stream orders", Warn), ("consumers of orders", Warn)]);
        check(&[], others, &[("stream faas-request", Note), ("consumers of faas-request", Note)]);
    }
}
