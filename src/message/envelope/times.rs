//! When attempts were begun: `n:milliseconds since 1970`, comma separated. A header of its own, for the
//! history's form is a promise.

use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;

use crate::message::{header, names};

/// The most that are read.
const MOST: usize = 20;

/// When an attempt was begun that took so long until `now`, as exactly as it is written.
pub(super) fn begun(now: SystemTime, took: Duration) -> SystemTime {
    let begun = now.checked_sub(took).unwrap_or(now).duration_since(SystemTime::UNIX_EPOCH);
    let millis = u64::try_from(begun.unwrap_or_default().as_millis()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Headers that tell of them, if there are any.
pub(super) fn headers(times: &[(u32, SystemTime)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !times.is_empty() {
        header::put(&mut headers, names::ATTEMPT_TIMES, &written(times));
    }
    headers
}

/// As they are written.
fn written(times: &[(u32, SystemTime)]) -> String {
    let one = |(n, at): &(u32, SystemTime)| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{n}:{}", since.as_millis())
    };
    times.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Those that can be read.
pub(super) fn read(text: &str) -> Vec<(u32, SystemTime)> {
    let one = |entry: &str| {
        let (n, millis) = entry.trim().split_once(':')?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))?;
        Some((n.parse().ok()?, at))
    };
    let mut last: Vec<_> = text.rsplit(',').take(MOST).filter_map(one).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_were_written_to_the_millisecond() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let times = vec![(7, at(1_795_303_291_416)), (8, at(1_795_303_301_001))];
        assert_eq!(written(&times), "7:1795303291416,8:1795303301001");
        assert_eq!(read(&written(&times)), times);
        assert_eq!(read("x, 8:1795303301001,9:,:5,10:99999999999999999999"), [times[1]]);
        assert_eq!(read(&"1:1,".repeat(30)).len(), MOST - 1);
    }
}
