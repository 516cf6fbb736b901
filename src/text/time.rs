//! Times as RFC 3339 writes them, in any offset from UTC.

use std::time::{Duration, SystemTime};

/// A time without fraction and offset.
const SECONDS: &str = "2026-11-26T08:00:00";
/// The last second that has a year of four digits.
const LAST: u64 = 253_402_300_799;

/// Reads a time; `None` where it is none, or has no offset: then nobody knows when it is.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.is_ascii().then(|| text.to_ascii_uppercase())?;
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, "+00:00"),
        None => text.split_at_checked(text.len().checked_sub(6)?)?,
    };
    let (_, fraction) = local.split_at_checked(SECONDS.len())?;
    let is_fraction = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let is_exact = fraction.is_empty() || fraction.strip_prefix('.').is_some_and(is_fraction);
    let time = humantime::parse_rfc3339_weak(&format!("{local}Z")).ok().filter(|_| is_exact)?;
    let (sign, apart) = offset.split_at_checked(1)?;
    let time = match sign {
        "+" => time.checked_sub(hours_and_minutes(apart)?)?,
        "-" => time.checked_add(hours_and_minutes(apart)?)?,
        _ => return None,
    };
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since.as_secs() <= LAST).then_some(time)
}

/// `07:30`.
fn hours_and_minutes(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str, most: u64| {
        let plain = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|number| plain && *number <= most)
    };
    Some(Duration::from_secs(3_600 * number(hours, 23)? + 60 * number(minutes, 59)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Duration> {
        Some(parse(text)?.duration_since(SystemTime::UNIX_EPOCH).unwrap())
    }

    #[test]
    fn a_time_is_read_in_any_offset() {
        for text in [
            "2026-11-27T09:48:35Z",
            "2026-11-27t09:48:35z",
            "2026-11-27 09:48:35Z",
            "2026-11-27T09:48:35.0Z",
            "2026-11-27T09:48:35+00:00",
            "2026-11-27T09:48:35-00:00",
            "2026-11-27T11:48:35+02:00",
            "2026-11-28T00:48:35.000+15:00",
            "2026-11-27T02:18:35-07:30",
        ] {
            assert_eq!(at(text), Some(Duration::from_secs(1_795_772_915)), "{text}");
        }
        let fine = at("2026-11-27T10:48:35.25+01:00");
        assert_eq!(fine, Some(Duration::from_millis(1_795_772_915_250)));
        assert_eq!(at("1970-01-01T02:00:00+02:00"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Z",
            "+02:00",
            "2026-11-27",
            "2026-11-27T09:48:35",
            "2026-11-27T09:48Z",
            "2026-11-27T09:48:35ZZ",
            "2026-11-27T09:48:35Z1Z",
            "2026-11-27T09:48:35.Z",
            "2026-11-27T09:48:35Z+02:00",
            "2026-11-27T09:48:35+0200",
            "2026-11-27T09:48:35+02",
            "2026-11-27T09:48:35+24:00",
            "2026-11-27T09:48:35+02:60",
            "2026-11-27T09:48:35++2:00",
            "2026-11-27T09:48:35 02:00",
            "2026-11-31T09:48:35Z",
            "1970-01-01T00:00:00+02:00",
            "9999-12-31T23:59:59-00:01",
            "2026-11-27T09:48:35\u{fc}00:00",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
