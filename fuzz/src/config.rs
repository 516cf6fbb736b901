//! The settings. Input: `name=value`, a line each.

use std::{ffi::OsString, time::Duration};

use queue_worker::config::{Refusal, load};

/// Stands where a login stands in a URL.
const SECRET: &str = "s3cr3t-w0rd";

/// Settings are refused, with something said about it, or can be worked with; and a login that stands in a
/// URL is never shown.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace("LOGIN", SECRET);
    // A name of the system's for a setting has no NUL in it.
    let lines: Vec<_> = text
        .split('\n')
        .filter(|line| !line.contains('\0'))
        .filter_map(|line| line.split_once('='))
        .collect();
    // Where it stands in front of an @ it is a login; elsewhere it is what an operator calls something.
    let is_login = |(_, value): &(&str, &str)| value.starts_with(&format!("nats://u:{SECRET}@"));
    let secret = text.matches(SECRET).count() == lines.iter().filter(|line| is_login(line)).count();
    let shown =
        match load([], lines.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)))) {
            Ok(loaded) => {
                let config = &loaded.config;
                assert!(
                    config.max_inflight >= 1
                        && config.ack_wait >= Duration::from_secs(1)
                        && !config.upstream_timeout.is_zero()
                );
                assert!(!config.queues.is_empty() && config.retry.max_attempts >= 1);
                assert!(config.gateway_url.username().is_empty() && config.gateway_url.password().is_none());
                format!("{loaded:?}")
            }
            Err(Refusal::Invalid(faults)) => {
                assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty()));
                faults.join("\n")
            }
            Err(Refusal::Print(text)) => text,
        };
    assert!(!secret || !shown.contains(SECRET), "{shown}");
}
