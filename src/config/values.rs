//! Reads one value from one text. Each function says what it expected when it refuses a text, and does not
//! know the setting.

use std::{
    fmt::Display,
    net::{Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::reader::{Reader, Reported};
use crate::text::duration;

pub(super) type Read<T> = Result<T, String>;

pub(super) fn boolean(text: &str) -> Read<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected true, false, 1 or 0".to_owned()),
    }
}

/// A duration in Go's notation.
pub(super) fn duration(text: &str) -> Read<Duration> {
    duration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn positive(text: &str) -> Read<Duration> {
    let duration = duration(text)?;
    if duration.is_zero() {
        Err("expected a duration of more than 0, such as 30s".to_owned())
    } else {
        Ok(duration)
    }
}

pub(super) fn at_least(least: Duration, text: &str) -> Read<Duration> {
    let duration = duration(text)?;
    let fits = duration >= least;
    if fits { Ok(duration) } else { Err(format!("expected a duration of at least {least:?}")) }
}

pub(super) fn count<T: FromStr + PartialOrd + Display>(range: RangeInclusive<T>) -> impl Fn(&str) -> Read<T> {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn choice<T: Copy>(options: &[(&str, T)]) -> impl Fn(&str) -> Read<T> {
    move |text| {
        let found = options.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
        let words = || options.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
        found.map(|(_, value)| *value).ok_or_else(|| format!("expected {}", words()))
    }
}

/// Several values, comma separated.
pub(super) fn list<T>(read: impl Fn(&str) -> Read<T>) -> impl Fn(&str) -> Read<Vec<T>> {
    move |text| text.split(',').map(|part| read(part.trim())).collect()
}

/// A port, checked; 0 is none.
pub(super) fn port(text: &str) -> Read<u16> {
    count(1..=u16::MAX)(text)
}

/// A path. Nobody looks whether there is a file: it is read when it is needed.
pub(super) fn file(text: &str) -> Read<PathBuf> {
    Ok(PathBuf::from(text))
}

/// A host in the form that a URL wants it in: IPv6 addresses get their brackets.
pub(super) fn host(text: &str) -> Read<String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let host =
        url::Host::parse(text).map_err(|_| "expected a host name or an address, without scheme and port")?;
    Ok(host.to_string())
}

/// Where to listen, as Go writes it: an address and a port, or `:8081` for all addresses. Of names only
/// `localhost` is known: there is nobody to ask for others yet.
pub(super) fn listen(text: &str) -> Read<SocketAddr> {
    let address = match text.rsplit_once(':') {
        Some(("", port)) => format!("0.0.0.0:{port}"),
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    let expected =
        "expected an IP address and a port, such as 127.0.0.1:8081 or [::1]:8081, or :8081 for all addresses";
    address.parse().map_err(|_| expected.to_owned())
}

/// A number of bytes: `1048576`, `64kB`, `10MiB`, `1G`.
pub(super) fn size(text: &str) -> Read<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" => Some(1_000),
        "m" | "mb" => Some(1_000_000),
        "g" | "gb" => Some(1_000_000_000),
        "t" | "tb" => Some(1_000_000_000_000),
        "ki" | "kib" => Some(1 << 10),
        "mi" | "mib" => Some(1 << 20),
        "gi" | "gib" => Some(1 << 30),
        "ti" | "tib" => Some(1 << 40),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    // NATS counts bytes in a signed number.
    bytes
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "expected a number of bytes, such as 1048576, 64kB or 10MiB".to_owned())
}

/// Two settings of which neither means anything without the other.
pub(super) fn pair<A, B>(
    reader: &mut Reader,
    (one, read_one): (&'static str, impl Fn(&str) -> Read<A>),
    (two, read_two): (&'static str, impl Fn(&str) -> Read<B>),
) -> Result<Option<(A, B)>, Reported> {
    let values = (reader.optional(one, read_one), reader.optional(two, read_two));
    match (values.0?, values.1?) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(reader.fault(one, format!("expected {two} beside it"))),
        (None, Some(_)) => Err(reader.fault(two, format!("expected {one} beside it"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn check<T: PartialEq + Debug>(read: impl Fn(&str) -> Read<T>, text: &str, expected: Option<T>) {
        assert_eq!(read(text).ok(), expected, "{text}");
    }

    #[test]
    fn booleans_are_true_false_1_and_0() {
        for (text, expected) in [("true", true), ("TRUE", true), ("1", true), ("False", false), ("0", false)]
        {
            check(boolean, text, Some(expected));
        }
        for text in ["yes", "on", "t", "2", "enabled"] {
            check(boolean, text, None);
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("512B", 512),
            ("1KiB", 1 << 10),
            ("10MiB", 10 << 20),
            ("10 MiB", 10 << 20),
            ("2GiB", 2 << 30),
            ("1Gi", 1 << 30),
            ("64kB", 64_000),
            ("5MB", 5_000_000),
            ("1GB", 1_000_000_000),
            ("7k", 7_000),
            ("7M", 7_000_000),
        ] {
            check(size, text, Some(bytes));
        }
        for text in [
            "-1",
            "1.5MiB",
            "MiB",
            "1MiBs",
            "1 0",
            "99999999999999999999",
            "9223372036854775808",
            "9999999TiB",
        ] {
            check(size, text, None);
        }
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        for (text, expected) in [
            ("nats", "nats"),
            ("nats.openfaas.svc.cluster.local.", "nats.openfaas.svc.cluster.local."),
            ("my_nats", "my_nats"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("[fd00::1]", "[fd00::1]"),
        ] {
            check(host, text, Some(expected.to_owned()));
        }
        for text in ["nats:4222", "nats://nats", "u@nats", "a b", "[nats]", "nats/x"] {
            check(host, text, None);
        }
    }

    #[test]
    fn go_listens_on_every_address_when_none_is_named() {
        check(listen, ":8081", Some(([0, 0, 0, 0], 8081).into()));
        check(listen, "127.0.0.1:0", Some(([127, 0, 0, 1], 0).into()));
        check(listen, "[::]:9", Some((Ipv6Addr::UNSPECIFIED, 9).into()));
        check(listen, "[::1]:9", Some((Ipv6Addr::LOCALHOST, 9).into()));
        check(listen, "localhost:9", Some(([127, 0, 0, 1], 9).into()));
        for text in [
            "8081",
            "0.0.0.0",
            ":",
            ":x",
            ":70000",
            "worker:8081",
            "::1:8081",
            "[::1]",
            "::",
            "localhost",
            "a:b:9",
        ] {
            check(listen, text, None);
        }
    }

    #[test]
    fn numbers_stay_in_their_range() {
        check(count(1..=5_u32), "5", Some(5));
        for text in ["0", "6", "-1", "1.0", "1e0", "99999999999", "five"] {
            check(count(1..=5_u32), text, None);
        }
        assert_eq!(port("0"), Err("expected a whole number from 1 to 65535".to_owned()));
    }
}
