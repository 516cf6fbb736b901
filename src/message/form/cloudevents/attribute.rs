//! Attributes of events: their names, and their values in headers.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// A name and a value.
pub(super) type Attribute = (String, String);

/// What a header's value does not hold as it is, beside everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The attributes that the specification has; of others nothing is quoted.
const KNOWN: [&str; 8] =
    ["datacontenttype", "dataschema", "id", "source", "specversion", "subject", "time", "type"];

/// Whether the specification allows an attribute's name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// An attribute in the words of a reason.
pub(super) fn shown(name: &str) -> String {
    if KNOWN.contains(&name) { format!("the event's {name}") } else { "an extension of the event".to_owned() }
}

/// The value that a header holds: its quotes are taken off, then it is percent-decoded once. `None` where
/// that is no UTF-8.
pub(super) fn decoded(header: &str) -> Option<String> {
    let header = header.trim();
    let quoted = header.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = quoted.map_or_else(|| header.to_owned(), unescaped);
    Some(percent_decode_str(&plain).decode_utf8().ok()?.into_owned())
}

fn unescaped(quoted: &str) -> String {
    let mut plain = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

/// A value as a header holds it.
pub(super) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// Whether a text is a time of RFC 3339.
pub(super) fn is_time(text: &str) -> bool {
    let digits = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'T' => matches!(byte, b'T' | b't' | b' '),
                _ => byte == wanted,
            })
    };
    let Some((seconds, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else { return false };
    let rest = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
    };
    let zone = matches!(rest, "Z" | "z") || digits(rest, "+00:00") || digits(rest, "-00:00");
    digits(seconds, "0000-00-00T00:00:00") && zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_the_specification_says() {
        for (value, header) in [
            ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
            ("a\"b%20c", "a%22b%2520c"),
            ("/my/context?a=b&c#d~{|}", "/my/context?a=b&c#d~{|}"),
            ("\u{7f}\u{1}", "%7F%01"),
        ] {
            assert_eq!(encoded(value), header);
            assert_eq!(decoded(header).as_deref(), Some(value));
        }
    }

    #[test]
    fn values_are_decoded_once_and_without_quotes() {
        for (header, value) in [
            ("\"a \\\"b\\\" c\"", Some("a \"b\" c")),
            ("a b", Some("a b")),
            ("%e2%82%ac%41", Some("€A")),
            ("%2541", Some("%41")),
            ("%C0%A0", None),
            ("%zz", Some("%zz")),
            ("\"", Some("\"")),
            ("é", Some("é")),
        ] {
            assert_eq!(decoded(header).as_deref(), value, "{header}");
        }
    }

    #[test]
    fn a_time_is_one_of_rfc_3339() {
        for good in ["2018-04-05T17:31:00Z", "2018-04-05t17:31:00.123456789z", "2018-04-05T17:31:00.5+02:00"]
        {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "",
            "yesterday",
            "2018-04-05",
            "2018-04-05T17:31:00",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31Z",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
