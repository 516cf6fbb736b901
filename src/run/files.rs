//! The limit of open files, and the number of calls at once that it allows.
//!
//! Each connection is a file. A worker without files can neither call nor answer probes. So it begins no more
//! calls at once than there are files for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The files that calls do not get: for the connections of the pages (32), NATS, name look-ups, files that
/// are read, and the program itself.
const RESERVE: u64 = 64;
/// The files of a call: a connection to the gateway, and then one to the receiver of its callback.
const EACH: u64 = 2;

/// There is no room for a single call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process may have {0} files open; expected at least {least}, and {each} for each call of \
    max_inflight more (ulimit -n, LimitNOFILE=)",
    least = RESERVE + EACH, each = EACH)]
pub struct TooFew(u64);

/// Raises the limit as far as the process may do so itself, and gives it; `None`: there is none.
#[must_use]
pub fn raised() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // The kernel allows less than the hard limit says.
        Err(_) => limit.current,
    }
}

/// The number of calls at once, of `wanted`, that there are files for.
///
/// # Errors
/// See [`TooFew`].
pub fn room(limit: Option<u64>, wanted: usize) -> Result<usize, TooFew> {
    let Some(limit) = limit else { return Ok(wanted) };
    let calls = limit.saturating_sub(RESERVE) / EACH;
    if calls == 0 {
        return Err(TooFew(limit));
    }
    Ok(wanted.min(usize::try_from(calls).unwrap_or(usize::MAX)))
}

/// The same for this process, of whose files `others` are for something else, with a warning where not all
/// are made at once.
///
/// # Errors
/// See [`TooFew`].
pub fn make_room(wanted: usize, others: usize) -> Result<usize, TooFew> {
    let others = u64::try_from(others).unwrap_or(u64::MAX);
    let limit = raised().map(|limit| limit.saturating_sub(others));
    let calls = room(limit, wanted)?;
    if calls < wanted {
        let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(EACH).saturating_add(RESERVE);
        tracing::warn!(
            maxInflight = wanted,
            limit,
            needed,
            calls,
            "max_inflight is more than there are files for: fewer calls run at once; raise the limit of open \
                files \
             (ulimit -n, LimitNOFILE=, the container's nofile) or lower max_inflight"
        );
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_get_what_is_left_of_the_files() {
        assert_eq!(room(None, 100_000), Ok(100_000));
        assert_eq!(room(Some(1_024), 50), Ok(50));
        assert_eq!(room(Some(1_024), 480), Ok(480));
        assert_eq!(room(Some(1_024), 2_000), Ok(480));
        assert_eq!(room(Some(20_000), 2_000), Ok(2_000));
        assert_eq!(room(Some(66), 50), Ok(1));
        for few in [0, 20, 64, 65] {
            assert_eq!(room(Some(few), 50), Err(TooFew(few)));
        }
        assert!(TooFew(65).to_string().contains("65 files open; expected at least 66, and 2 for each call"));
    }
}
