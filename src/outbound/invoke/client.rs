//! The connections to the gateway: how they are made, kept and given up, and which answers are read.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioTimer,
};
use reqwest::ClientBuilder;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::{trust::Trust, turns::ShortTurns, wire::Watching};

/// Connections are retired at this age, so that calls spread over the pods behind a service.
pub(super) const CONNECTION_AGE: Duration = Duration::from_secs(60);
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
const MOST_ANSWER_HEADERS: usize = 1_000;

pub(super) type HttpClient = Client<Watching, Full<Bytes>>;

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

/// A client without connections so far. It reads what curl and Go read: a header line that goes on in the
/// next one is put together, and one that HTTP does not allow is left out. Not the answer's form but its
/// status says what became of a call.
pub(super) fn client(connector: &Watching) -> HttpClient {
    Client::builder(ShortTurns)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(CONNECTION_AGE / 2)
        .http1_title_case_headers(true)
        .http1_max_headers(MOST_ANSWER_HEADERS)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .build(connector.clone())
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
