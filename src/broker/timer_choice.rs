//! Which timer wakes parked retries: the operator's choice, and what the server can do.

use crate::{broker::version::Version, config::RetryTimer, message::timer::Timer};

/// From this version on schedules are used unasked.
///
/// Until NATS 2.14: the choice is needed, for older servers lose schedules or have none.
pub(crate) const SCHEDULES: Version = (2, 14, 0);
/// From this version on schedules are used on request: older ones lose some on recovery.
const SCHEDULES_ON_REQUEST: Version = (2, 12, 9);

/// Whether the stream of retries is to allow schedules: the operator's choice, and a server that fires them.
///
/// # Errors
/// Where the operator asks for schedules and the server has none.
pub(crate) fn wants_schedules(setting: RetryTimer, server: Version) -> Result<bool, String> {
    match setting {
        RetryTimer::Levels => Ok(false),
        RetryTimer::Auto => Ok(server >= SCHEDULES),
        RetryTimer::Schedules if server >= SCHEDULES_ON_REQUEST => Ok(true),
        RetryTimer::Schedules => {
            let (major, minor, patch) = server;
            Err(format!(
                "retry_timer=schedules needs NATS 2.12.9 or newer, and this is {major}.{minor}.{patch}"
            ))
        }
    }
}

/// The timer, and why it is this one. `allowed`: whether the stream's configuration came back with schedules
/// allowed, for old servers take the field without a word and fire nothing.
///
/// # Errors
/// Where the operator asks for schedules and the stream has none.
pub(crate) fn choose(
    setting: RetryTimer,
    server: Version,
    allowed: bool,
) -> Result<(Timer, &'static str), String> {
    match setting {
        RetryTimer::Levels => Ok((Timer::Levels, "retry_timer=levels")),
        RetryTimer::Schedules if allowed => Ok((Timer::Schedules, "retry_timer=schedules")),
        RetryTimer::Schedules => {
            Err("retry_timer=schedules, but the stream does not allow message schedules".to_owned())
        }
        RetryTimer::Auto if server < SCHEDULES => {
            Ok((Timer::Levels, "this server is older than 2.14 and does not fire schedules reliably"))
        }
        RetryTimer::Auto if allowed => Ok((Timer::Schedules, "this server fires schedules itself")),
        RetryTimer::Auto => Ok((
            Timer::Levels,
            "the stream of retries does not allow message schedules; one with a size cannot",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_what_is_asked_for_and_what_the_server_has() {
        use RetryTimer::{Auto, Levels, Schedules};
        // The setting, the server, whether the stream allows schedules once asked to; the timer, or nothing
        // but an error.
        for (setting, server, allows, expected) in [
            (Auto, (2, 9, 10), false, Some(Timer::Levels)),
            (Auto, (2, 13, 9), true, Some(Timer::Levels)),
            (Auto, (2, 14, 0), true, Some(Timer::Schedules)),
            (Auto, (2, 15, 2), false, Some(Timer::Levels)),
            (Schedules, (2, 12, 8), true, None),
            (Schedules, (2, 12, 9), true, Some(Timer::Schedules)),
            (Schedules, (2, 15, 2), false, None),
            (Levels, (2, 15, 2), true, Some(Timer::Levels)),
            (Levels, (2, 9, 10), false, Some(Timer::Levels)),
        ] {
            let chosen = wants_schedules(setting, server).and_then(|_| choose(setting, server, allows));
            assert_eq!(chosen.ok().map(|(timer, _)| timer), expected, "{setting:?} {server:?} {allows}");
        }
        assert_eq!(
            (wants_schedules(Levels, (2, 15, 2)), wants_schedules(Auto, (2, 13, 0))),
            (Ok(false), Ok(false))
        );
    }
}
