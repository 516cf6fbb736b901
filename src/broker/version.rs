//! Versions of servers.

/// A server's version: major, minor, patch.
pub(crate) type Version = (u64, u64, u64);

/// Reads a version as servers write theirs, like `2.15.0-dev`. An unreadable version is older than all
/// others.
pub fn version(text: &str) -> Version {
    let release = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or_default());
    let mut next = || numbers.next().unwrap_or_default();
    (next(), next(), next())
}
