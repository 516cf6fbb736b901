//! The settings of traces, under the names that OpenTelemetry gives them in every program.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{
    reader::{Reader, Reported},
    values::{Read, boolean, choice, list},
};

const SERVICE_NAME: &str = "service.name";

/// The way of traces.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// The URL that spans are posted to.
    pub endpoint: Url,
    /// What is said beside them. The values are marked as sensitive, so that no `Debug` shows them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The attributes of this program; `service.name` is its name in traces.
    pub resource: Vec<(String, String)>,
    /// Which calls are traced.
    pub sampler: Sampler,
}

/// Which calls are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Whether a call that its caller traces is traced here, too, and one that the caller does not trace is
    /// not.
    pub follows_parent: bool,
    /// The share of the other calls, 0 to 1.
    pub share: f64,
}

/// `None`: nobody asked for traces. All settings are read all the same, and what is wrong with them is said.
pub(super) fn tracing(reader: &mut Reader) -> Result<Option<Tracing>, Reported> {
    let base = reader.optional("otel_exporter_otlp_endpoint", |text| endpoint(text, "/v1/traces"));
    let whole = reader.optional("otel_exporter_otlp_traces_endpoint", |text| endpoint(text, ""));
    let headers = reader.optional("otel_exporter_otlp_headers", list(header));
    let protocol = reader.value("otel_exporter_otlp_protocol", choice(&[("http/protobuf", ())]));
    let service_name = reader.optional("otel_service_name", |text| Read::Ok(text.to_owned()));
    let resource = reader.optional("otel_resource_attributes", list(attribute));
    let sampler = sampler(reader);
    let disabled = reader.value("otel_sdk_disabled", boolean);
    let (base, whole, disabled) = (base?, whole?, disabled?);
    let asked =
        if whole.is_some() { "otel_exporter_otlp_traces_endpoint" } else { "otel_exporter_otlp_endpoint" };
    protocol?;
    let tracing = Tracing {
        headers: headers?.unwrap_or_default(),
        resource: named(service_name?, resource?.unwrap_or_default()),
        sampler: sampler?,
        endpoint: match whole.or(base) {
            Some(endpoint) if !disabled => endpoint,
            _ => return Ok(None),
        },
    };
    if cfg!(feature = "otel") {
        Ok(Some(tracing))
    } else {
        Err(reader.fault(
            asked,
            "expected a program that was built with the feature otel, as images are: \
            this one sends no traces",
        ))
    }
}

/// The name that is set, else the one among the attributes, else the program's own.
fn named(name: Option<String>, mut attributes: Vec<(String, String)>) -> Vec<(String, String)> {
    let given =
        attributes.iter().rev().find(|(name, _)| name == SERVICE_NAME).map(|(_, value)| value.clone());
    attributes.retain(|(name, _)| name != SERVICE_NAME);
    attributes
        .push((SERVICE_NAME.to_owned(), name.or(given).unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())));
    attributes
}

fn sampler(reader: &mut Reader) -> Result<Sampler, Reported> {
    let samplers = [
        ("always_on", (false, Some(1.0))),
        ("always_off", (false, Some(0.0))),
        ("traceidratio", (false, None)),
        ("parentbased_always_on", (true, Some(1.0))),
        ("parentbased_always_off", (true, Some(0.0))),
        ("parentbased_traceidratio", (true, None)),
    ];
    let sampler = reader.value("otel_traces_sampler", choice(&samplers));
    let share = reader.value("otel_traces_sampler_arg", |text| {
        let number = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        number.ok_or("expected a number from 0 to 1, such as 0.1")
    });
    let ((follows_parent, fixed), share) = (sampler?, share?);
    Ok(Sampler { follows_parent, share: fixed.unwrap_or(share) })
}

fn endpoint(text: &str, behind: &str) -> Read<Url> {
    let expected = "expected a URL such as http://collector:4318, without user, password, query and fragment";
    let mut url =
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(expected)?;
    let (user, password) = (url.username(), url.password());
    if !user.is_empty() || password.is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(expected.to_owned());
    }
    if !behind.is_empty() {
        let path = format!("{}{behind}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// `name=value`, the value percent-encoded where it has to be.
fn attribute(text: &str) -> Read<(String, String)> {
    let expected = || "expected name=value, comma separated, with values percent-encoded".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(expected)?;
    let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| expected())?;
    let name = name.trim();
    if name.is_empty() { Err(expected()) } else { Ok((name.to_owned(), value.into_owned())) }
}

fn header(text: &str) -> Read<(HeaderName, HeaderValue)> {
    let (name, value) = attribute(text)?;
    let name = name.parse().map_err(|_| "expected names that HTTP allows")?;
    let mut value: HeaderValue = value.parse().map_err(|_| "expected values that HTTP allows")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_is_put_behind_an_endpoint() {
        let check = |text, behind, expected: Option<&str>| {
            assert_eq!(endpoint(text, behind).ok().as_ref().map(Url::as_str), expected, "{text}");
        };
        check("http://collector:4318", "/v1/traces", Some("http://collector:4318/v1/traces"));
        check("https://collector/otlp/", "/v1/traces", Some("https://collector/otlp/v1/traces"));
        check("http://collector/traces", "", Some("http://collector/traces"));
        for text in [
            "collector:4318",
            "grpc://collector:4317",
            "http://u:p@collector",
            "http://u@collector",
            "http://c/?key=x",
            "http://c/#x",
        ] {
            check(text, "", None);
        }
    }

    #[test]
    fn lists_have_names_and_values() {
        let check = |text, expected: &[(&str, &str)]| {
            let read = list(attribute)(text).unwrap();
            assert!(
                read.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected.iter().copied()),
                "{text}: {read:?}"
            );
        };
        check("a=b", &[("a", "b")]);
        check(" a = b ,c=d=e,f=", &[("a", "b"), ("c", "d=e"), ("f", "")]);
        check("a=b%2Cc%20d", &[("a", "b,c d")]);
        for text in ["a", "=b", "a=b,", "a=%ff"] {
            assert!(list(attribute)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_program_has_one_name() {
        let check = |name: Option<&str>, attributes: &str, expected: &str| {
            let named = named(name.map(str::to_owned), list(attribute)(attributes).unwrap());
            let names: Vec<_> = named
                .iter()
                .filter(|(name, _)| name == SERVICE_NAME)
                .map(|(_, value)| value.as_str())
                .collect();
            assert_eq!((names, named.len()), (vec![expected], 2), "{attributes}");
        };
        check(None, "a=b", "queue-worker");
        check(Some("mine"), "a=b", "mine");
        check(None, "service.name=theirs,a=b", "theirs");
        check(Some("mine"), "service.name=theirs,a=b", "mine");
    }

    #[test]
    fn headers_are_those_of_http_and_no_debug_shows_them() {
        let (name, value) = header("X-Key=s3cret%20word").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-key", &b"s3cret word"[..]));
        assert!(!format!("{value:?}").contains("s3cret"));
        for text in ["a b=c", "a=b%0Ac", "a"] {
            let complaint = header(text).unwrap_err();
            assert!(!complaint.contains("b%0A"), "{complaint}");
        }
    }
}
