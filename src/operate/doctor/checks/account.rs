//! The limits of the account.

use super::{
    super::{
        facts::{Broker, Unseen},
        finding::Finding,
    },
    unknown,
};
use crate::{
    broker::{
        jetstream::Account,
        known_issues::Severity::{Fail, Warn},
    },
    config::Config,
};

/// From this share on a limit is near.
const NEAR: f64 = 0.9;

/// How much of what the account may hold it holds, in each of its tiers.
pub fn limits(_: &Config, broker: &Broker) -> Vec<Finding> {
    let account = match &broker.account {
        Ok(account) => account,
        Err(Unseen::Silent(reason)) => {
            let means = "nothing can be stored or served";
            return vec![Finding::new(Fail, "JetStream", reason, means).mend(
                "jetstream { store_dir: /data }   # in nats.conf, and for the account where there \
                        are several",
            )];
        }
        Err(unseen) => return vec![unknown("account", unseen)],
    };
    let tiers = account
        .tiers
        .iter()
        .map(|(name, tier)| (format!("account, tier {name}"), tier))
        .chain([("account".to_owned(), account)]);
    let mut findings: Vec<_> = tiers.flat_map(|(what, holdings)| tier(&what, holdings)).collect();
    if findings.is_empty() {
        let Account { streams, consumers, storage, .. } = account;
        let seen = format!("{streams} streams, {consumers} consumers, {storage} bytes");
        findings.push(Finding::ok("account", seen));
    }
    findings
}

fn tier(what: &str, holdings: &Account) -> Vec<Finding> {
    let limits = &holdings.limits;
    let rows = [
        (holdings.storage, limits.storage(), "--js-disk-storage", "bytes"),
        (holdings.streams, limits.streams(), "--js-streams", "streams"),
        (holdings.consumers, limits.consumers(), "--js-consumer", "consumers"),
    ];
    let findings = rows.into_iter().filter_map(|(used, most, flag, unit)| {
        let most = most?;
        let share = used as f64 / most as f64;
        let (severity, means) = match share {
            share if share >= 1.0 => (
                Fail,
                "nothing more of it can be stored or made: invocations are refused, retries and dead \
                    letters wait in vain",
            ),
            share if share >= NEAR => (Warn, "soon nothing more of it can be stored or made"),
            _ => return None,
        };
        let mend = format!(
            "nsc edit account {flag}={}   # or the account's limits in \
            nats.conf",
            most.saturating_mul(2)
        );
        Some(Finding::new(severity, what, format!("{used} of {most} {unit}"), means).mend(mend))
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::tests::{broker, check},
        *,
    };

    #[test]
    fn a_limit_is_told_before_it_is_reached() {
        let with = |used: u64, most: i64| {
            json!({ "storage": used, "streams": 3,
            "limits": { "max_storage": most, "max_streams": -1 } })
        };
        for (account, expected) in [
            (with(5, -1), [].as_slice()),
            (with(5, 100), &[]),
            (with(90, 100), &[("account", Warn)]),
            (with(100, 100), &[("account", Fail)]),
            (json!({ "tiers": { "R1": with(95, 100), "R3": with(1, 100) } }), &[("account, tier R1", Warn)]),
        ] {
            check(
                &[],
                |facts| broker(facts).account = Ok(serde_json::from_value(account).unwrap()),
                expected,
            );
        }
        let silent = || Unseen::Silent("nobody answers the JetStream API".to_owned());
        check(&[], |facts| broker(facts).account = Err(silent()), &[("JetStream", Fail)]);
    }
}
