//! Durations as Go writes them: `300ms`, `1m10s`, `1.5h`, `0`.
//!
//! The grammar is that of Go's `time.ParseDuration`, because every chart and every value that people bring
//! along was written for it. The sum is made here in whole nanoseconds: humantime refuses some of Go's
//! fractions (`1.12345h`), knows units that Go lacks, and can overflow.

use std::time::Duration;

/// Go keeps durations in a signed 64-bit count of nanoseconds.
const LONGEST: u128 = i64::MAX as u128;
/// The longest number that is repeated, in bytes: annotations are as long as their authors like.
const SHOWN: usize = 24;
/// How many parts of a nanosecond a fraction is summed in.
const FINEST: u128 = 10_u128.pow(18);

/// Why a text is no duration; says what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A bare number: seconds to some, milliseconds to others.
    #[error("expected a duration with a unit, such as {0}s")]
    NoUnit(String),
    /// Time does not run backwards.
    #[error("expected a duration that is not negative, such as 30s")]
    Negative,
    /// Something else than numbers with Go's units, one after the other.
    #[error("expected a duration in h, m, s, ms, us or ns, such as 1m30s or 1.5h")]
    Malformed,
    /// More than 2^63 - 1 nanoseconds.
    #[error("expected a duration of at most 2562047h47m16s, the longest in Go")]
    TooLong,
}

/// Reads a duration in Go's notation; fractions of a nanosecond are cut off.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    if text.starts_with('-') {
        return Err(InvalidDuration::Negative);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(InvalidDuration::Malformed);
    }
    if rest.bytes().all(|b| b == b'.' || b.is_ascii_digit()) && rest.parse::<f64>().is_ok() {
        return Err(InvalidDuration::NoUnit(if rest.len() <= SHOWN { rest } else { "30" }.to_owned()));
    }
    let mut total = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let unit = nanoseconds(name).filter(|_| !whole.is_empty() || !fraction.is_empty());
        total += amount(whole, fraction, unit.ok_or(InvalidDuration::Malformed)?)?;
        if total > LONGEST {
            return Err(InvalidDuration::TooLong);
        }
        rest = after;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| InvalidDuration::TooLong)
}

/// A duration in Go's notation, as people would type it: what is less than a millisecond is cut off where
/// there is more.
pub fn shown(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if duration.is_zero() {
        return "0s".to_owned();
    }
    if seconds == 0 {
        return if millis > 0 { format!("{millis}ms") } else { format!("{}ns", duration.as_nanos()) };
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s"), (u64::from(millis), "ms")];
    parts.iter().filter(|(amount, _)| *amount > 0).map(|(amount, unit)| format!("{amount}{unit}")).collect()
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn amount(whole: &str, fraction: &str, unit: u64) -> Result<u128, InvalidDuration> {
    let whole = if whole.is_empty() { "0" } else { whole };
    let whole: u64 = whole.parse().map_err(|_| InvalidDuration::TooLong)?;
    let unit = u128::from(unit);
    // Eighteen digits reach below a nanosecond in every unit; the rest cannot matter.
    let mut place = unit * FINEST;
    let mut part = 0;
    for digit in fraction.bytes().take(18) {
        place /= 10;
        part += place * u128::from(digit - b'0');
    }
    Ok(u128::from(whole) * unit + part / FINEST)
}

fn nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // Go takes the micro sign and the Greek letter alike.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{InvalidDuration::*, *};

    fn check(text: &str, nanoseconds: u64) {
        assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for text in ["0s", "300ms", "1m", "2m", "1h30m", "336h", "1s500ms", "10m", "72ns"] {
            assert_eq!(shown(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn what_go_reads_is_read() {
        check("0", 0);
        check("+0", 0);
        check("0s", 0);
        check("300ms", 300_000_000);
        check("1m10s", 70_000_000_000);
        check("1.5h", 5_400_000_000_000);
        check("1.12345h", 4_044_420_000_000);
        check("100µs", 100_000);
        check("100\u{3bc}s", 100_000);
        check("100us", 100_000);
        check(".5s", 500_000_000);
        check("5.s", 5_000_000_000);
        check("+5s", 5_000_000_000);
        check("1h1m1s1ms1us1ns", 3_661_001_001_001);
        check("1s1h", 3_601_000_000_000);
        check("1.9ns", 1);
        check("0.33333333333333333333h", 1_199_999_999_999);
        check("0.123456789123456789123456789s", 123_456_789);
        check("007s", 7_000_000_000);
        check("9223372036854775807ns", i64::MAX as u64);
        check("2562047h47m16.854775807s", i64::MAX as u64);
    }

    #[test]
    fn what_go_does_not_read_is_refused() {
        let refused = [
            ("30", NoUnit("30".into())),
            ("1.5", NoUnit("1.5".into())),
            ("00", NoUnit("00".into())),
            ("1111111111111111111111111", NoUnit("30".into())),
            ("-5s", Negative),
            ("-0", Negative),
            ("", Malformed),
            ("+", Malformed),
            (".", Malformed),
            (".5", NoUnit(".5".into())),
            ("1e3", Malformed),
            ("s", Malformed),
            (".s", Malformed),
            ("1d", Malformed),
            ("1w", Malformed),
            ("1M", Malformed),
            ("1S", Malformed),
            ("1sec", Malformed),
            ("1m 10s", Malformed),
            ("1 m", Malformed),
            ("1e3s", Malformed),
            ("+-5s", Malformed),
            ("5s-", Malformed),
            ("1s5", Malformed),
            ("inf", Malformed),
            ("9223372036854775808ns", TooLong),
            ("2562048h", TooLong),
            ("99999999999999999999s", TooLong),
            ("18446744073709551615s1000000000ns", TooLong),
        ];
        for (text, error) in refused {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-+.0-9hmsnuµ]{0,40}|\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_nanoseconds_survive(nanoseconds in 0..=i64::MAX as u64) {
            check(&format!("{nanoseconds}ns"), nanoseconds);
            let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
            check(&format!("{whole}.{rest:09}s"), nanoseconds);
        }
    }
}
