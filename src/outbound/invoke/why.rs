//! The reason why a connection failed, in a few words that an operator can act on. It quotes no URL.

use std::{error::Error, io};

use rustls::CertificateError;

use crate::text::line::one_line;

/// The most characters of a reason: a certificate may name a great many hosts.
const LONGEST: usize = 200;

/// The innermost reason: the layers above it only say that a request went wrong.
pub fn root(error: &(dyn Error + 'static)) -> String {
    let mut chain = vec![error];
    while let Some(inner) = chain.last().and_then(|outer| inner(*outer)) {
        chain.push(inner);
    }
    let resolving = chain.iter().any(|error| error.to_string() == "dns error");
    let words = chain.last().map(|innermost| words(*innermost, resolving)).unwrap_or_default();
    one_line(&words).take(LONGEST).collect()
}

/// What is below an error. An I/O error hides what it was made of behind that one's own source.
fn inner<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn words(error: &(dyn Error + 'static), resolving: bool) -> String {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return format!("TLS: {}", tls(error));
    }
    let text = error.to_string();
    // The number says nothing more.
    let text = text.split_once(" (os error ").map_or(text.as_str(), |(text, _)| text);
    match text.strip_prefix("failed to lookup address information: ") {
        Some(why) => format!("name not resolved: {why}"),
        None if resolving => format!("name not resolved: {text}"),
        None => text.to_owned(),
    }
}

fn tls(error: &rustls::Error) -> String {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer => "unknown issuer of the certificate".to_owned(),
            Bad::Expired | Bad::ExpiredContext { .. } => "the certificate has expired".to_owned(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the certificate is not valid yet".to_owned()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "the certificate is for another name".to_owned()
            }
            Bad::Revoked => "the certificate was revoked".to_owned(),
            other => format!("invalid certificate: {other}"),
        },
        rustls::Error::InvalidMessage(_) => "the other side does not speak TLS, or damages it".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Box<dyn Error + Send + Sync>);

    fn check(error: impl Into<Box<dyn Error + Send + Sync>>, expected: &str) {
        let below = Layer("client error (Connect)", Box::new(Layer("tcp connect error", error.into())));
        assert_eq!(root(&below), expected);
    }

    #[test]
    fn the_innermost_reason_is_told_in_plain_words() {
        check(io::Error::from_raw_os_error(111), "Connection refused");
        check(
            io::Error::other(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            "TLS: unknown issuer of the certificate",
        );
        check(
            rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
            "TLS: the certificate is for another name",
        );
        check(
            rustls::Error::InvalidCertificate(CertificateError::Expired),
            "TLS: the certificate has expired",
        );
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        check(
            io::Error::new(io::ErrorKind::InvalidData, alert),
            "TLS: received fatal alert: HandshakeFailure",
        );
        let lookup = || io::Error::other("failed to lookup address information: Name or service not known");
        check(lookup(), "name not resolved: Name or service not known");
        check(Layer("dns error", lookup().into()), "name not resolved: Name or service not known");
        check(Layer("dns error", io::Error::other("no record").into()), "name not resolved: no record");
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let text = root(&io::Error::other("é\r\n\u{85}".repeat(999)));
        assert!(text.chars().count() == LONGEST && !text.contains(char::is_control), "{text}");
    }
}
