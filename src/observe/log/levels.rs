//! Which events are logged.

use tracing_subscriber::filter::{ParseError, Targets};

/// The levels that somebody asked for, else the usual ones; and whether what was asked for was refused.
pub(super) fn of(asked: Option<&str>, usual: &str) -> (Targets, bool) {
    match asked.map(parts).filter(|parts| !parts.is_empty()).map(read) {
        Some(Ok(levels)) => (levels, false),
        other => (read(parts(usual)).unwrap_or_default(), other.is_some()),
    }
}

/// The parts of a list of modules and levels, with spaces and commas as people write them.
fn parts(asked: &str) -> Vec<&str> {
    asked.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn read(parts: Vec<&str>) -> Result<Targets, ParseError> {
    parts.join(",").parse()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_read_as_people_write_them() {
        for (asked, worker, client) in [
            ("debug", Level::DEBUG, Level::DEBUG),
            (" info, async_nats=warn ,", Level::INFO, Level::WARN),
            ("queue_worker::broker=trace,error", Level::ERROR, Level::ERROR),
            ("warn,queue_worker=debug", Level::DEBUG, Level::WARN),
        ] {
            let levels = of(Some(asked), "off").0;
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                assert_eq!(levels.would_enable("queue_worker::worker", &level), level <= worker, "{asked}");
                assert_eq!(levels.would_enable("async_nats::connector", &level), level <= client, "{asked}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_what_says_nothing_is_not() {
        for (asked, refused) in
            [(None, false), (Some(""), false), (Some(" , "), false), (Some("info,queue_worker=loud"), true)]
        {
            assert_eq!(of(asked, "warn"), ("warn".parse().unwrap(), refused), "{asked:?}");
        }
    }
}
