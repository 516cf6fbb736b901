//! How connections to the gateway are made and given up, and which answers are read.

use std::{io, time::Duration};

use hyper::client::conn::http1;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::{trust::Trust, wire::Watching};

/// A gateway that takes longer to accept a connection cannot be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// The probes of a silent connection: the time before the first one, the time between two, and their number.
/// A connection is broken when none is answered, or when the peer's system does not acknowledge sent bytes
/// for as long as all of that together.
const SILENCE: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// The most headers of an answer; more count as a broken connection, and the call would be repeated for them.
/// Room for all of them is made, and filled with nothing, for each answer.
const MOST_ANSWER_HEADERS: usize = 250;

/// Makes connections to the gateway at `base`.
pub(super) fn connector(base: &Url, trust: &Trust) -> io::Result<Watching> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(SILENCE));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp.enforce_http(false);
    // Without TLS the system's certificates need not be there.
    let tls = match base.scheme() {
        "https" => trust.tls()?,
        _ => ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    Ok(Watching(
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp),
    ))
}

/// The rules of the connections. They read what curl and Go read: a header line that goes on in the next one
/// is put together, and one that HTTP does not allow is left out. Not the answer's form but its status says
/// what became of a call.
pub(super) fn rules() -> http1::Builder {
    let mut rules = http1::Builder::new();
    rules
        .title_case_headers(true)
        .max_headers(MOST_ANSWER_HEADERS)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    rules
}

/// The same rules for the clients that are reqwest's: of callbacks, and of look-ups.
pub(crate) fn like_it(builder: ClientBuilder) -> ClientBuilder {
    let builder = builder
        .tcp_keepalive(SILENCE)
        .tcp_keepalive_interval(PROBE)
        .tcp_keepalive_retries(PROBES)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true);
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    builder
}
