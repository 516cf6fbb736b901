//! The account's grants against a worker's demands: hosted accounts want a size for each stream,
//! and bound how many there are and how much room a consumer has.

use super::{super::finding::Finding, QueueView};
use crate::{
    broker::{
        jetstream::{Account, Settings},
        known_issues::Severity::{Fail, Warn},
        streams::{
            limits::{self, Sized},
            rules::least_pending,
        },
    },
    message::timer::HIGHEST,
};

/// Obstacles to the parts that are not there yet, and the room that consumers are granted.
pub(crate) fn grants(view: &QueueView<'_>) -> Vec<Finding> {
    let Ok(account) = &view.broker.account else { return Vec::new() };
    let granted = tier(account, view.config.nats.stream_replicas);
    let missing = missing(view);
    let mut findings: Vec<_> = missing.iter().filter_map(|stream| size(stream, granted)).collect();
    findings.extend(storage(&missing, granted, view.config.nats.stream_replicas));
    findings.extend(streams(&missing, granted));
    findings.extend(consumers(view, granted));
    findings.extend(room(view, granted));
    findings
}

/// Whether the account wants a size for each stream, so that none can be taken off.
pub(crate) fn wants_sizes(view: &QueueView<'_>) -> bool {
    view.broker
        .account
        .as_ref()
        .is_ok_and(|account| tier(account, view.config.nats.stream_replicas).limits.max_bytes_required)
}

/// Whether a consumer has all the room that the account grants.
pub(crate) fn has_all(consumer: &Settings, view: &QueueView<'_>) -> bool {
    let Ok(account) = &view.broker.account else { return false };
    let most = tier(account, view.config.nats.stream_replicas).limits.ack_pending();
    most.is_some_and(|most| consumer.limit("max_ack_pending").unwrap_or_default() >= most)
}

/// The part of the account for streams with so many replicas.
fn tier(account: &Account, replicas: usize) -> &Account {
    account.tiers.get(&format!("R{replicas}")).unwrap_or(account)
}

/// The streams of the queue that a worker will make.
fn missing(view: &QueueView<'_>) -> Vec<Sized> {
    let queue = view.queue;
    let seen = [&queue.stream, &queue.retries, &queue.dead];
    let all = limits::streams(view.config, &queue.names).into_iter().zip(seen);
    all.filter(|(_, seen)| matches!(seen, Ok(None))).map(|(sized, _)| sized).collect()
}

fn size(Sized { stream, setting, bytes }: &Sized, granted: &Account) -> Option<Finding> {
    let most = granted.limits.stream_bytes();
    let means = format!("stream {stream} cannot be made, and no worker starts");
    let refused = |seen: String| Finding::new(Fail, "account", seen, means.clone());
    if *bytes == 0 {
        let example = most.map_or_else(|| "1GiB".to_owned(), |most| most.to_string());
        let seen = format!("max_bytes_required: a stream needs a size, and {setting} is not set");
        return granted
            .limits
            .max_bytes_required
            .then(|| refused(seen).mend(format!("{setting}={example}   # or less")));
    }
    let most = most.filter(|most| bytes > most)?;
    Some(
        refused(format!("{setting}={bytes}, and a stream may have {most} bytes"))
            .mend(format!("{setting}={most}   # or less")),
    )
}

fn storage(missing: &[Sized], granted: &Account, replicas: usize) -> Option<Finding> {
    let most = granted.limits.storage()?;
    let replicas = u64::try_from(replicas).unwrap_or(1);
    // Until NATS 2.10: servers do not say what is set aside, only what is there.
    let taken = granted.reserved_storage.max(granted.storage);
    let wanted =
        missing.iter().map(|sized| sized.bytes.saturating_mul(replicas)).fold(0_u64, u64::saturating_add);
    let left = most.saturating_sub(taken);
    let settings: Vec<_> =
        missing.iter().filter(|sized| sized.bytes > 0).map(|sized| sized.setting).collect();
    let each = left / replicas.max(1) / u64::try_from(settings.len().max(1)).unwrap_or(1);
    let mend = || settings.iter().map(|setting| format!("{setting}={each}")).collect::<Vec<_>>().join(" ");
    (wanted > left).then(|| {
        let seen = format!(
            "{} want {wanted} bytes with nats_stream_replicas={replicas}, and {left} of {most} are left",
            settings.join(", ")
        );
        Finding::new(Fail, "account", seen, "not all streams can be made, and no worker starts").mend(mend())
    })
}

fn streams(missing: &[Sized], granted: &Account) -> Option<Finding> {
    let most = granted.limits.streams()?;
    let left = most.saturating_sub(granted.streams);
    let wanted = u64::try_from(missing.len()).unwrap_or(u64::MAX);
    let seen = || format!("{wanted} streams are to be made, and {left} of {most} are left");
    (wanted > left).then(|| {
        Finding::new(Fail, "account", seen(), "not all streams can be made, and no worker starts").mend(
            format!(
                "nsc edit account --js-streams={}   # or the account's limits in nats.conf",
                most + wanted - left
            ),
        )
    })
}

fn consumers(view: &QueueView<'_>, granted: &Account) -> Option<Finding> {
    let most = granted.limits.consumers()?;
    let left = most.saturating_sub(granted.consumers);
    let queue = view.queue;
    let lanes = [&queue.fresh, &queue.due].into_iter().filter(|seen| matches!(seen, Ok(None))).count();
    let levels = if super::consumers::needs_levels(view) {
        queue.levels.as_ref().map_or(0, |found| (HIGHEST as usize + 1).saturating_sub(found.len()))
    } else {
        0
    };
    let wanted = u64::try_from(lanes + levels).unwrap_or(u64::MAX);
    let seen = || format!("{wanted} consumers are to be made, and {left} of {most} are left");
    (wanted > left).then(|| {
        Finding::new(Fail, "account", seen(), "not all consumers can be made, and no worker starts").mend(
            format!(
                "nsc edit account --js-consumer={}   # or the account's limits in nats.conf",
                most + wanted - left
            ),
        )
    })
}

fn room(view: &QueueView<'_>, granted: &Account) -> Option<Finding> {
    let most = granted.limits.ack_pending()?;
    let (inflight, least) = (view.config.max_inflight, least_pending(view.config.max_inflight));
    let seen = || format!("max_ack_pending: {most}, and 4 × max_inflight={inflight} are {least}");
    (most < least).then(|| {
        Finding::new(
            Warn,
            "account",
            seen(),
            "one worker can take all of a consumer's room, and the others wait",
        )
        .mend(format!(
            "max_inflight={}   # or max_ack_pending: {least} in the account's limits",
            (most / 4).max(1)
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            super::facts::Facts,
            tests::{broker, check, queue},
        },
        *,
    };
    use crate::broker::known_issues::Severity;

    fn read(account: Value) -> Account {
        serde_json::from_value(account).unwrap()
    }

    /// Before a worker was there, in an account with these limits.
    fn fresh(limits: Value) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let account = json!({ "streams": 1, "consumers": 1, "storage": 10, "reserved_storage": 100,
                "limits": limits });
            broker(facts).account = Ok(read(account));
            let queue = queue(facts);
            (queue.stream, queue.retries, queue.dead, queue.fresh, queue.due) =
                (Ok(None), Ok(None), Ok(None), Ok(None), Ok(None));
        }
    }

    /// The findings about the account, and the mend of the first of them.
    fn told(set: &[(&str, &str)], limits: Value) -> (Vec<Severity>, String) {
        let mut facts = super::super::super::facts::tests::well(set);
        fresh(limits)(&mut facts);
        let found: Vec<_> =
            super::super::findings(&facts).into_iter().filter(|finding| finding.what == "account").collect();
        let found: Vec<_> = found.into_iter().filter(|finding| finding.severity > Severity::Ok).collect();
        let mend = found.first().and_then(|finding| finding.mend.clone()).unwrap_or_default();
        (found.into_iter().map(|finding| finding.severity).collect(), mend)
    }

    #[test]
    fn what_an_account_will_not_grant_is_told_before_a_worker_starts() {
        let sizes = [
            ("nats_stream_max_bytes", "400"),
            ("retries_max_bytes", "400"),
            ("dead_letter_max_bytes", "400"),
        ];
        for (set, limits, severities, mend) in [
            (&[][..], json!({ "max_bytes_required": false, "max_storage": -1 }), &[][..], ""),
            (&[], json!({ "max_bytes_required": true }), &[Fail, Fail, Fail], "nats_stream_max_bytes=1GiB "),
            (
                &sizes[..2],
                json!({ "max_bytes_required": true, "storage_max_stream_bytes": 500 }),
                &[Fail],
                "dead_letter_max_bytes=500 ",
            ),
            (&sizes, json!({ "max_bytes_required": true, "storage_max_stream_bytes": 400 }), &[], ""),
            (
                &sizes,
                json!({ "storage_max_stream_bytes": 399 }),
                &[Fail, Fail, Fail],
                "nats_stream_max_bytes=399 ",
            ),
            (
                &sizes,
                json!({ "max_storage": 1_299 }),
                &[Fail],
                "nats_stream_max_bytes=399 retries_max_bytes=399 dead_letter_max_bytes=399",
            ),
            (&sizes, json!({ "max_storage": 1_300 }), &[], ""),
            (&[], json!({ "max_streams": 3 }), &[Fail], "nsc edit account --js-streams=4 "),
            (&[("dead_letters", "false")], json!({ "max_streams": 3 }), &[], ""),
            (&[], json!({ "max_consumers": 2 }), &[Fail], "nsc edit account --js-consumer=3 "),
            (&[], json!({ "max_ack_pending": 199 }), &[Warn], "max_inflight=49 "),
            (&[], json!({ "max_ack_pending": 200 }), &[], ""),
        ] {
            let (found, told) = told(set, limits.clone());
            assert_eq!(found, severities, "{set:?}, {limits}: {told}");
            assert!(told.starts_with(mend), "{limits}: {told}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_asked_for_again() {
        let limits =
            json!({ "max_bytes_required": true, "max_storage": 1, "max_streams": 3, "max_consumers": 2 });
        let account = json!({ "streams": 0, "consumers": 0, "storage": 0, "limits": limits });
        check(&[], |facts| broker(facts).account = Ok(read(account)), &[]);
        let tiers = json!({ "tiers": { "R1": { "streams": 0, "limits": { "max_ack_pending": 7 } },
            "R3": { "limits": {} } } });
        check(&[], |facts| broker(facts).account = Ok(read(tiers.clone())), &[("account", Warn)]);
        check(&[("nats_stream_replicas", "3")], |facts| broker(facts).account = Ok(read(tiers)), &[]);
    }
}
