//! Error lines without what differs from call to call, so that letters of the same fault are one group.
//!
//! Numbers, addresses, ids, times and durations become `<n>`, `<address>`, `<id>`, `<time>` and `<duration>`;
//! words stay. An HTTP status that is said to be one stays, too.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::text::{duration, line};

/// The longest normalised line, in bytes.
const LONGEST: usize = 200;
/// The longest word that is looked at, and what stands for a longer one.
const LONGEST_WORD: usize = 64;
const LONG: &str = "<long>";
/// A row of hexadecimal digits is an id from this length on.
const HEX: usize = 8;
/// Letters and digits in turn are an id from this length on.
const MIXED: usize = 5;
/// Words with digits that are words.
const WORDS: [&str; 22] = [
    "http1", "http2", "http3", "h2", "h2c", "ipv4", "ipv6", "utf8", "utf16", "base64", "sha1", "sha256",
    "sha512", "md5", "oauth2", "s3", "ec2", "x509", "k8s", "p256", "tls1", "i18n",
];
/// Behind these a number is an HTTP status.
const SAY_A_STATUS: [&str; 4] = ["answered", "status", "code", "http"];

/// The line without what differs from call to call. Normalising it again changes nothing.
pub fn normal(error: &str) -> String {
    let mut normal = String::with_capacity(error.len().min(LONGEST));
    let mut before = "";
    for word in line::cut(error, 4 * LONGEST).split_whitespace() {
        let is_status = SAY_A_STATUS.iter().any(|says| before.eq_ignore_ascii_case(says));
        let next = Some(word).filter(|word| word.len() <= LONGEST_WORD).map(|word| of_word(word, is_status));
        let next = next.filter(|next| next.len() <= LONGEST_WORD).unwrap_or_else(|| LONG.to_owned());
        if normal.len() + 1 + next.len() > LONGEST {
            break;
        }
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(&next);
        before = word.trim_end_matches(':');
    }
    normal
}

/// A word and the punctuation around it.
fn of_word(word: &str, status: bool) -> String {
    let outside = |c: char| "\"'`([{,;!?)]}|".contains(c);
    let inner = word.trim_start_matches(outside);
    let (front, _) = word.split_at(word.len() - inner.len());
    // An address of IPv6 stands in brackets.
    let (front, inner) = match front.strip_suffix('[') {
        Some(rest) if inner.contains("]:") => (rest, word.get(rest.len()..).unwrap_or_default()),
        _ => (front, inner),
    };
    let core = inner.trim_end_matches(|c| outside(c) || ".:".contains(c));
    let (_, back) = inner.split_at(core.len());
    let kept = status && core.len() == 3 && core.bytes().all(|byte| byte.is_ascii_digit());
    format!("{front}{}{back}", if kept { core.to_owned() } else { of_core(core) })
}

fn of_core(core: &str) -> String {
    let whole = if core.contains("://") {
        "<url>"
    } else if is_address(core) {
        "<address>"
    } else if is_uuid(core) {
        "<id>"
    } else if is_time(core) {
        "<time>"
    } else if core.ends_with(|c: char| c.is_ascii_alphabetic()) && duration::parse(core).is_ok() {
        "<duration>"
    } else if is_mail(core) {
        "<mail>"
    } else {
        return of_parts(core);
    };
    whole.to_owned()
}

fn is_address(core: &str) -> bool {
    let bare = core.trim_matches(['[', ']']);
    core.parse::<SocketAddr>().is_ok()
        || bare.parse::<IpAddr>().is_ok() && (bare.contains('.') || bare.parse::<Ipv6Addr>().is_ok())
}

fn is_uuid(core: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<_> = core.split('-').collect();
    parts.len() == lengths.len()
        && parts.iter().zip(lengths).all(|(part, length)| part.len() == length && is_hex(part))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A date, a time of the day, or both as RFC 3339 has them.
fn is_time(core: &str) -> bool {
    let shape: String = core.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let (date, time) = match shape.split_once(['T', 't']) {
        Some((date, time)) => (Some(date), Some(time)),
        None if shape.contains(':') => (None, Some(shape.as_str())),
        None => (Some(shape.as_str()), None),
    };
    let is_date = |date: &str| date == "9999-99-99" || date == "9999/99/99";
    let is_clock = |time: &str| {
        let time = time.trim_end_matches(['Z', 'z']);
        let time = time.split_once(['+']).map_or(time, |(time, _)| time);
        let seconds = time.split_once('.').map_or(time, |(seconds, _)| seconds);
        seconds == "99:99:99"
    };
    date.is_none_or(is_date) && time.is_none_or(is_clock)
}

fn is_mail(core: &str) -> bool {
    core.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
}

/// A word, part by part: letters and digits, and what stands between them.
fn of_parts(core: &str) -> String {
    let mut normal = String::with_capacity(core.len());
    let mut rest = core;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '<' => placeholder(rest),
            c if c.is_ascii_digit() => number(rest),
            _ => None,
        };
        let (part, is_number) = match length {
            Some(length) => (rest.get(..length).unwrap_or(rest), first != '<'),
            None => {
                let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
                (rest.get(..end.max(first.len_utf8())).unwrap_or(rest), false)
            }
        };
        if is_number {
            normal.push_str("<n>");
        } else {
            normal.push_str(&of_part(part));
        }
        rest = rest.get(part.len()..).unwrap_or_default();
    }
    normal
}

/// The length of a placeholder that the text begins with.
fn placeholder(text: &str) -> Option<usize> {
    let end = text.find('>')?;
    let inner = text.get(1..end)?;
    (!inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(end + 1)
}

/// The length of a number that the text begins with, points and commas between digits included; not of one
/// that goes on in letters.
fn number(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while is_digit(end) || (end > 0 && matches!(bytes.get(end), Some(b'.' | b',')) && is_digit(end + 1)) {
        end += 1;
    }
    let goes_on = text.get(end..).and_then(|rest| rest.chars().next()).is_some_and(char::is_alphanumeric);
    (!goes_on).then_some(end)
}

/// A run of letters and digits.
fn of_part(part: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    if !part.contains(digit) || WORDS.iter().any(|word| part.eq_ignore_ascii_case(word)) {
        return part.to_owned();
    }
    if part.starts_with("0x") || part.starts_with("0X") || part.len() >= HEX && is_hex(part) {
        return "<id>".to_owned();
    }
    let figures = part.trim_start_matches(digit);
    if figures.len() < part.len() && !figures.contains(digit) {
        return format!("<n>{figures}");
    }
    let letters = part.trim_end_matches(digit);
    if !letters.contains(digit) {
        return format!("{letters}<n>");
    }
    if part.len() >= MIXED { "<id>".to_owned() } else { part.replace(digit, "<n>").replace("<n><n>", "<n>") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(error: &str, expected: &str) {
        assert_eq!(normal(error), expected, "{error}");
    }

    #[test]
    fn what_differs_from_call_to_call_goes_and_words_stay() {
        check("no answer in time", "no answer in time");
        check("the function answered 502", "the function answered 502");
        check("HTTP 503: upstream", "HTTP 503: upstream");
        check("status: 404", "status: 404");
        check("unreachable: Connection refused", "unreachable: Connection refused");
        check("dial tcp 10.0.3.7:8080: connect: refused", "dial tcp <address>: connect: refused");
        check("dial tcp [fd00::1]:80: refused", "dial tcp <address>: refused");
        check("no route to fd00::1", "no route to <address>");
        check(
            "its URL has 65535 bytes, and 65534 are the most",
            "its URL has <n> bytes, and <n> are the most",
        );
        check("order 4711 (user=42) of 1,234.50", "order <n> (user=<n>) of <n>");
        check("key 'a1b2c3d4e5f6' is gone", "key '<id>' is gone");
        check("call 7f9c24e8-3b12-4a7e-9f4e-0123456789ab failed", "call <id> failed");
        check("at 2026-11-26T18:32:01.5Z after 1.5s", "at <time> after <duration>");
        check("2026-11-26 18:32:01 after 15ms", "<time> <time> after <duration>");
        check("GET https://shop/orders/7?x=1 failed", "GET <url> failed");
        check("lookup pod-7d9f8b6c5-x2x9z: no such host", "lookup pod-<id>-<id>: no such host");
        check("worker12 of shard-3", "worker<n> of shard-<n>");
        check("bad base64, HTTP2, sha256", "bad base64, HTTP2, sha256");
        check("mail to a.b@example.com bounced", "mail to <mail> bounced");
        check("pointer 0xdeadbeef, 12KiB, 50%", "pointer <id>, <n>KiB, <n>%");
        check("name not resolved: db.prod.svc", "name not resolved: db.prod.svc");
        check("  two \t  blanks  ", "two blanks");
        check("at line 1 column 17", "at line <n> column <n>");
        check("", "");
    }

    #[test]
    fn a_long_line_ends_behind_a_word() {
        for pad in 150..220 {
            let line = normal(&format!("{} 10.0.0.1 and more", "x ".repeat(pad / 2)));
            let last = line.split(' ').next_back().unwrap();
            assert!(line.len() <= LONGEST && ["x", "<address>", "and", "more"].contains(&last), "{line}");
        }
        check(&format!("a {} b", "x".repeat(65)), "a <long> b");
    }

    proptest! {
        #[test]
        fn normalising_again_changes_nothing(error in "\\PC{0,300}") {
            let once = normal(&error);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn whatever_a_line_is_made_of_normalising_again_changes_nothing(
            words in proptest::collection::vec(
                prop_oneof![
                    "[a-z]{1,8}", "[0-9]{1,6}", "[0-9a-f]{8}", "[a-z0-9]{1,12}", "[0-9.]{1,9}",
                    "[\"'(\\[<]{1,2}[a-z0-9]{1,6}[>\\])'\":.,]{1,2}", "[0-9]{1,3}(ms|s|KiB)",
                    "<[a-z]{0,5}>?", "status", "10\\.0\\.0\\.[0-9]{1,2}(:[0-9]{2})?",
                ],
                0..30,
            ),
        ) {
            let once = normal(&words.join(" "));
            prop_assert!(once.len() <= LONGEST);
            prop_assert_eq!(normal(&once), once);
        }

        #[test]
        fn the_figures_of_a_line_do_not_matter(a in 0_u32..1_000_000, b in 0_u64..u64::MAX, c in 0_u8..=255) {
            let line = |a: u32, b: u64, c: u8| {
                normal(&format!("order {a} of user-{b} at 10.0.0.{c}:80, took {a}ms"))
            };
            prop_assert_eq!(line(a, b, c), line(7, 7, 7));
        }
    }
}
