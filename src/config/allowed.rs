//! The hosts that may be called back. Pure.

use std::str::FromStr;

use url::{Host, Url};

/// The hosts that may be called back: globs such as `*.example.com`, `hooks.internal:8443` or `10.0.0.*`,
/// where a star stands for any characters, dots included. A glob without a port allows every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts(Vec<Glob>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob {
    host: String,
    port: Option<u16>,
}

/// A text that is no list of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected *, none, or hosts separated by commas, such as *.example.com or hooks.internal:8443")]
pub struct InvalidHosts;

impl FromStr for AllowedHosts {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self(Vec::new()));
        }
        text.split(',').map(|glob| glob.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Glob {
    type Err = InvalidHosts;

    fn from_str(text: &str) -> Result<Self, InvalidHosts> {
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| InvalidHosts)?)),
            None => (text, None),
        };
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let known = |c: char| c.is_ascii_hexdigit() || ":.*".contains(c);
            let literal = Host::parse(host).map(|host| host.to_string()).ok();
            let glob =
                || (address.contains('*') && address.chars().all(known)).then(|| host.to_ascii_lowercase());
            return Ok(Self { host: literal.or_else(glob).ok_or(InvalidHosts)?, port });
        }
        let labels =
            host.strip_suffix('.').unwrap_or(host).split('.').map(label).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { host: labels.join("."), port })
    }
}

/// A part of a name as a URL has it: in lower case, and in ASCII.
fn label(text: &str) -> Result<String, InvalidHosts> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    match text {
        "" => Err(InvalidHosts),
        _ if text.chars().all(plain) => Ok(text.to_ascii_lowercase()),
        _ if text.is_ascii() => Err(InvalidHosts),
        _ => Host::parse(text).map(|host| host.to_string()).map_err(|_| InvalidHosts),
    }
}

impl AllowedHosts {
    /// Whether they include the URL's host, and its port where a glob names one.
    pub fn permits(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host = host.strip_suffix('.').unwrap_or(host);
        let port = url.port_or_known_default();
        let fits = |glob: &Glob| {
            matches(&glob.host, host)
                && (!glob.is_of_addresses() || matches!(url.host(), Some(Host::Ipv4(_))))
        };
        self.0.iter().any(|glob| (glob.port.is_none() || glob.port == port) && fits(glob))
    }
}

impl Glob {
    /// Whether it means IPv4 addresses: then it stands for no name that only begins like one, such as
    /// `10.0.0.1.example.com`.
    fn is_of_addresses(&self) -> bool {
        self.host.contains('.')
            && self.host.bytes().all(|byte| byte.is_ascii_digit() || b".*".contains(&byte))
    }
}

/// Whether a glob matches a text. It looks for the pieces between the stars from the left, each where it
/// comes first: if that does not fit, nothing does.
fn matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match text.find(piece).and_then(|at| text.get(at + piece.len()..)) {
            Some(after) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hosts: &str, url: &str, permitted: bool) {
        let allowed: AllowedHosts = hosts.parse().unwrap();
        assert_eq!(allowed.permits(&Url::parse(url).unwrap()), permitted, "{hosts} {url}");
    }

    #[test]
    fn a_star_allows_all_and_none_allows_nothing() {
        for url in ["http://example.com/", "https://10.0.0.1:8443/", "http://[::1]/"] {
            check("*", url, true);
            check("none", url, false);
            check("None", url, false);
        }
    }

    #[test]
    fn hosts_match_whole_and_in_any_spelling() {
        check("example.com", "http://EXAMPLE.com./x", true);
        check("EXAMPLE.com.", "http://example.com", true);
        check("example.com", "http://example.com.evil.org/", false);
        check("example.com", "http://notexample.com/", false);
        check("example.com", "http://evil.org/example.com", false);
        check("example.com", "http://example.com@evil.org/", false);
        check("bücher.example", "http://xn--bcher-kva.example/", true);
        check("*.bücher.example", "http://A.BÜCHER.example/", true);
        check("a.example, b.example", "http://b.example/", true);
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        check("*.example.com", "http://a.b.example.com/", true);
        check("*.example.com", "http://example.com/", false);
        check("*.example.com", "http://aexample.com/", false);
        check("*.example.com", "http://a.example.com.evil.org/", false);
        check("10.0.0.*", "http://10.0.0.9/", true);
        check("10.0.0.*", "http://10.0.0.9.evil.org/", false);
        check("10.0.0.*", "http://167772169/", true);
        check("10.0.0.*", "http://10.0.1.9/", false);
        check("hook-*-eu.*", "http://hook-7-eu.example.com/", true);
        check("a*a", "http://a/", false);
        check("a**b", "http://ab/", true);
        check("*a*b*", "http://xaxbx/", true);
        check("*a*b*", "http://xbxax/", false);
        check("*ab*ab", "http://ab/", false);
        check("[fd00:*]", "http://[fd00::7]/", true);
        check("[0:0::1]", "http://[::1]/", true);
    }

    #[test]
    fn a_port_is_asked_for_where_the_glob_has_one() {
        check("hooks.internal:8443", "https://hooks.internal:8443/", true);
        check("hooks.internal:8443", "https://hooks.internal/", false);
        check("hooks.internal:443", "https://hooks.internal/", true);
        check("hooks.internal:443", "http://hooks.internal/", false);
        check("*:80", "http://anything/", true);
        check("[::1]:9000", "http://[::1]:9000/", true);
        check("[::1]:9000", "http://[::1]:9001/", false);
        check("hooks.internal", "https://hooks.internal:1/", true);
    }

    #[test]
    fn what_is_no_list_of_hosts_is_refused() {
        for text in [
            "a b", "http://a", "a/b", "a:port", "a:99999", "a,,b", "a..b", ".", "u@a", "a?b", "[::g]",
            "[::1", "none,a b", "\u{1}",
        ] {
            assert_eq!(text.parse::<AllowedHosts>(), Err(InvalidHosts), "{text:?}");
        }
    }
}
