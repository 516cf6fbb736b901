//! The callback URL: Go's `url.URL` written field by field, and back to one URL.

use std::fmt;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer, ser::SerializeMap};
use url::Url;

use super::ENCODED_IN_PATH;

/// The public fields of Go's `url.URL`, as the gateway parsed it from the caller's `X-Callback-Url`.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CallbackUrl {
    /// `http` or `https`, if a callback is to be sent.
    pub scheme: String,
    /// What follows the scheme of a URL without `//`.
    pub(crate) opaque: String,
    /// Whether there was a user. Go's type for it has no public fields, so that neither name nor password are
    /// left.
    #[serde(serialize_with = "user")]
    pub user: bool,
    /// The host, and the port where there is one.
    pub host: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The path as it was written, where that is not how Go would write it.
    pub(crate) raw_path: String,
    /// Whether an empty host is left out.
    pub(crate) omit_host: bool,
    /// Whether there was a `?` with nothing behind it.
    pub(crate) force_query: bool,
    /// The query as it was written, without `?`.
    pub(crate) raw_query: String,
    /// The fragment, percent-decoded.
    pub fragment: String,
    /// The fragment as it was written, where that is not how Go would write it.
    pub(crate) raw_fragment: String,
    /// The URL itself, where it was never in parts.
    #[serde(skip)]
    pub(crate) whole: Option<Url>,
}

impl fmt::Debug for CallbackUrl {
    /// Without path and query, which may be a password as good as any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackUrl")
            .field("scheme", &self.scheme)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Writes a user as Go does: an object without fields.
fn user<S: Serializer>(present: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    if *present { serializer.serialize_map(Some(0))?.end() } else { serializer.serialize_none() }
}

impl CallbackUrl {
    /// A URL as somebody wrote it. To a text that is none no callback can be sent.
    pub(crate) fn written(text: &str) -> Self {
        let Ok(url) = Url::parse(text) else { return Self { opaque: text.to_owned(), ..Self::default() } };
        let host = url.host_str().unwrap_or_default();
        let encoded = url.path().contains('%');
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Self {
            scheme: url.scheme().to_owned(),
            user: !url.username().is_empty() || url.password().is_some(),
            host: url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            path: decoded(url.path()),
            raw_path: if encoded { url.path().to_owned() } else { String::new() },
            force_query: url.query() == Some(""),
            raw_query: url.query().unwrap_or_default().to_owned(),
            fragment: decoded(url.fragment().unwrap_or_default()),
            whole: Some(url),
            ..Self::default()
        }
    }

    /// Puts the URL together again. It was parsed from one of the `originals`: the first that is the same
    /// place gives the user and password back.
    pub(super) fn rebuild<'o>(
        &self,
        mut originals: impl Iterator<Item = &'o str>,
    ) -> Result<Url, &'static str> {
        if !["http", "https"].iter().any(|scheme| self.scheme.eq_ignore_ascii_case(scheme)) {
            return Err("the callback URL is neither http nor https");
        }
        // A character that ends a host would turn the rest of it into something else, or the path into the
        // host.
        let ends = |c: char| "/\\?#@".contains(c) || c.is_whitespace() || c.is_control();
        if self.host.is_empty() || self.host.contains(ends) {
            return Err("the callback URL has no valid host");
        }
        if let Some(url) = &self.whole {
            return Ok(url.clone());
        }
        let mut url = Url::parse(&format!("{}://{}", self.scheme, self.host))
            .map_err(|_| "the callback URL has no valid host")?;
        url.set_path(&self.escaped_path());
        if self.force_query || !self.raw_query.is_empty() {
            url.set_query(Some(&self.raw_query));
        }
        let fragment = if self.raw_fragment.is_empty() { &self.fragment } else { &self.raw_fragment };
        url.set_fragment((!fragment.is_empty()).then_some(fragment));
        if self.user {
            // Without the original the user stays unknown, and no made-up one is sent.
            if let Some(original) =
                originals.find_map(|text| Url::parse(text).ok().filter(|original| same_place(original, &url)))
            {
                // These fail only for URLs that cannot have a user, and http ones with a host can.
                let _ = url.set_username(original.username());
                let _ = url.set_password(original.password());
            }
        }
        Ok(url)
    }

    /// The path as it was written, if that is known and says the same; else the decoded one, encoded again.
    fn escaped_path(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/[]%".contains(&byte);
        let same = percent_decode_str(&self.raw_path).eq(self.path.bytes());
        if !self.raw_path.is_empty() && self.raw_path.bytes().all(plain) && same {
            self.raw_path.clone()
        } else {
            utf8_percent_encode(&self.path, ENCODED_IN_PATH).to_string()
        }
    }
}

/// Whether two URLs have the same scheme, host, port and path, however the path is encoded.
fn same_place(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
        && percent_decode_str(one.path()).eq(percent_decode_str(other.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(scheme: &str, host: &str, path: &str) -> CallbackUrl {
        CallbackUrl { scheme: scheme.into(), host: host.into(), path: path.into(), ..CallbackUrl::default() }
    }

    #[test]
    fn the_fields_make_the_url_again() {
        let check = |callback: CallbackUrl, expected| {
            assert_eq!(callback.rebuild(std::iter::empty()).unwrap().as_str(), expected)
        };
        check(parts("http", "host", ""), "http://host/");
        check(parts("https", "host:8443", "/a/b c?d#e%"), "https://host:8443/a/b%20c%3Fd%23e%25");
        check(parts("HTTP", "Host:80", "/"), "http://host/");
        check(parts("http", "[::1]:9000", "/cb"), "http://[::1]:9000/cb");
        check(parts("http", "host", "no/slash"), "http://host/no/slash");
        let base = parts("http", "host", "/a/b");
        check(CallbackUrl { raw_path: "/a%2Fb".into(), ..base.clone() }, "http://host/a%2Fb");
        check(CallbackUrl { raw_path: "/elsewhere".into(), ..base.clone() }, "http://host/a/b");
        check(CallbackUrl { raw_path: "\\a\\b".into(), ..base.clone() }, "http://host/a/b");
        check(CallbackUrl { raw_query: "x=1&y=%2F".into(), ..base.clone() }, "http://host/a/b?x=1&y=%2F");
        check(CallbackUrl { raw_query: "x#y".into(), ..base.clone() }, "http://host/a/b?x%23y");
        check(CallbackUrl { force_query: true, ..base.clone() }, "http://host/a/b?");
        check(CallbackUrl { fragment: "top".into(), ..base.clone() }, "http://host/a/b#top");
        check(CallbackUrl { user: true, ..base }, "http://host/a/b");
    }

    #[test]
    fn what_no_callback_can_be_sent_to_is_refused_without_being_quoted() {
        let check = |callback: CallbackUrl| {
            let why = callback.rebuild(std::iter::empty()).unwrap_err();
            assert!(why.starts_with("the callback URL "), "{why}");
        };
        for scheme in ["", "ftp", "file", "javascript", "http:", "httpx"] {
            check(parts(scheme, "host", "/"));
        }
        for host in
            ["", ":80", "a/b", "a\\b", "a?b", "a#b", "good@evil", "a b", "a\n", "a:port", "a:99999", "[::1"]
        {
            check(parts("http", host, "/path"));
        }
        check(CallbackUrl { scheme: "http".into(), opaque: "host/path".into(), ..CallbackUrl::default() });
        check(parts("http", "", "/host/path"));
    }

    #[test]
    fn a_url_that_was_written_is_the_same_again() {
        for (text, again) in [
            ("http://host", Ok("http://host/")),
            (
                "HTTPS://u:p%40@Host:8443/a%2Fb/c d?x=%2F&y#z",
                Ok("https://u:p%40@host:8443/a%2Fb/c%20d?x=%2F&y#z"),
            ),
            ("http://[::1]:9000/cb?", Ok("http://[::1]:9000/cb?")),
            ("http://host/%ff|a", Ok("http://host/%ff|a")),
            ("ftp://host/", Err("the callback URL is neither http nor https")),
            ("host/path", Err("the callback URL is neither http nor https")),
            ("http://", Err("the callback URL is neither http nor https")),
        ] {
            let rebuilt = CallbackUrl::written(text).rebuild([text].into_iter());
            assert_eq!(rebuilt.as_ref().map(Url::as_str).map_err(|why| *why), again, "{text}");
        }
    }

    #[test]
    fn user_and_password_are_recovered_from_the_original_text() {
        let check = |original: &str, expected| {
            let callback =
                CallbackUrl { user: true, raw_query: "z=1".into(), ..parts("http", "host:9000", "/a|b") };
            assert_eq!(
                callback.rebuild(["", original].into_iter()).unwrap().as_str(),
                expected,
                "{original}"
            );
        };
        check("http://u:p@host:9000/a|b?z=1", "http://u:p@host:9000/a%7Cb?z=1");
        check("http://u@HOST:9000/a%7cb", "http://u@host:9000/a%7Cb?z=1");
        check("http://u%40x:p%3A%2F@host:9000/a|b", "http://u%40x:p%3A%2F@host:9000/a%7Cb?z=1");
        let lost = "http://host:9000/a%7Cb?z=1";
        check("https://u:p@host:9000/a|b", lost);
        check("http://u:p@other:9000/a|b", lost);
        check("http://u:p@host:9001/a|b", lost);
        check("http://u:p@host:9000/other", lost);
        check("no url", lost);
    }

    #[test]
    fn a_user_that_the_fields_do_not_have_is_not_taken_from_the_original() {
        let url = parts("http", "host", "/").rebuild(["http://u:p@host/"].into_iter()).unwrap();
        assert_eq!(url.as_str(), "http://host/");
    }
}
