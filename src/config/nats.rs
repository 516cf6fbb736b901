//! How to reach NATS and log in to it.

use std::path::PathBuf;

use url::Url;

use super::{
    login::{self, Login, UrlLogin, login},
    names,
    reader::{Reader, Reported},
    values::{Read, boolean, count, file, host, list, pair, port, size},
};

/// How to reach and log in to NATS.
#[derive(Debug, Clone)]
pub struct Nats {
    /// At least one `nats://` or `tls://` URL, without user and password.
    pub servers: Vec<String>,
    /// The login.
    pub login: Login,
    /// Certificate authorities in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins before the server's first word.
    pub tls_first: bool,
    /// The JetStream domain.
    pub js_domain: Option<String>,
    /// The prefix of reply subjects.
    pub inbox_prefix: String,
    /// Whether streams and consumers are created and updated; if not, they are only bound.
    pub manage: bool,
    /// Replicas of the streams that this program creates.
    pub stream_replicas: usize,
    /// Size limit in bytes of a queue's stream when it is created; 0 is none.
    pub stream_max_bytes: u64,
}

pub(super) fn nats(reader: &mut Reader) -> Result<Nats, Reported> {
    let servers = servers(reader);
    let in_urls = servers.iter().flatten().filter_map(|(_, login)| login.clone()).collect();
    let login = login(reader, in_urls);
    let ca_file = reader.optional("nats_ca_file", file);
    let client_cert = pair(reader, ("nats_cert_file", file), ("nats_key_file", file));
    let tls_first = reader.value("nats_tls_first", boolean);
    let js_domain = reader.optional("nats_js_domain", names::name);
    let inbox_prefix = reader.value("nats_inbox_prefix", names::subject);
    let manage = reader.value("nats_manage", boolean);
    let stream_replicas = reader.value("nats_stream_replicas", count(1..=5));
    let stream_max_bytes = reader.value("nats_stream_max_bytes", size);
    Ok(Nats {
        servers: servers?.into_iter().map(|(url, _login)| url).collect(),
        login: login?,
        ca_file: ca_file?,
        client_cert: client_cert?,
        tls_first: tls_first?,
        js_domain: js_domain?,
        inbox_prefix: inbox_prefix?,
        manage: manage?,
        stream_replicas: stream_replicas?,
        stream_max_bytes: stream_max_bytes?,
    })
}

/// A host and a port that are set apart from each other, as `host:port`, if either is set.
pub(super) fn address(
    reader: &mut Reader,
    host_name: &'static str,
    port_name: &'static str,
) -> Result<Option<String>, Reported> {
    let (host, port) = (reader.value(host_name, host), reader.value(port_name, port));
    let whole = format!("{}:{}", host?, port?);
    Ok((reader.is_set(host_name) || reader.is_set(port_name)).then_some(whole))
}

/// A server's URL, and the login that stood in it.
type Server = (String, Option<UrlLogin>);

fn servers(reader: &mut Reader) -> Result<Vec<Server>, Reported> {
    let urls = reader.optional("nats_url", list(server));
    // All of them are read, so that all their errors come to light.
    let ours = address(reader, "nats_host", "nats_port");
    let theirs = address(reader, "faas_nats_address", "faas_nats_port");
    let (urls, ours, theirs) = (urls?, ours?, theirs?);
    let address = ours.or(theirs).unwrap_or_else(|| "127.0.0.1:4222".to_owned());
    Ok(urls.unwrap_or_else(|| vec![(format!("nats://{address}"), None)]))
}

fn server(text: &str) -> Read<Server> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let fits = |url: &Url| {
        matches!(url.scheme(), "nats" | "tls")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.port() != Some(0)
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(&whole) {
        Ok(mut url) if fits(&url) => {
            let login = login::take(&mut url)?;
            Ok((url.to_string(), login))
        }
        _ => Err("expected one or more URLs such as nats://nats:4222 or tls://nats:4222, comma separated"
            .to_owned()),
    }
}
