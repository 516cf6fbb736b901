//! How to reach NATS and log in to it.

use std::{fmt, path::PathBuf};

use url::Url;

use super::{
    names,
    reader::{Reader, Reported},
    typed::masked,
    values::{Read, boolean, count, file, host, list, port},
};

/// How to reach and log in to NATS.
#[derive(Clone)]
pub struct Nats {
    /// At least one `nats://` or `tls://` URL. They may hold a user and a password: show them through [`masked`] only.
    pub servers: Vec<String>,
    /// How to log in.
    pub login: Login,
    /// Certificate authorities besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The JetStream domain.
    pub js_domain: Option<String>,
    /// The prefix of reply subjects.
    pub inbox_prefix: String,
    /// Whether streams and consumers are created and updated; if not, they are only bound.
    pub manage: bool,
    /// Replicas of the streams that this program creates.
    pub stream_replicas: usize,
}

/// One way to log in to NATS. Files are read at the start; a log-in that is refused later for half a minute ends the program, and its restart reads them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// No credentials.
    None,
    /// A `.creds` file: a JWT and its seed.
    Creds(PathBuf),
    /// A file with an nkey seed.
    Nkey(PathBuf),
    /// A file with a token.
    Token(PathBuf),
    /// A user, and a file with the password.
    UserPassword(String, PathBuf),
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats")
            .field("servers", &self.servers.iter().map(|url| masked(url)).collect::<Vec<_>>())
            .field("login", &self.login)
            .field("ca_file", &self.ca_file)
            .field("client_cert", &self.client_cert)
            .field("js_domain", &self.js_domain)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("manage", &self.manage)
            .field("stream_replicas", &self.stream_replicas)
            .finish()
    }
}

pub(super) fn nats(reader: &mut Reader) -> Result<Nats, Reported> {
    let servers = servers(reader);
    let login = login(reader, servers.as_deref().unwrap_or_default());
    let ca_file = reader.optional("nats_ca_file", file);
    let client_cert = pair(reader, ("nats_cert_file", file), ("nats_key_file", file));
    let js_domain = reader.optional("nats_js_domain", names::name);
    let inbox_prefix = reader.value("nats_inbox_prefix", names::subject);
    let manage = reader.value("nats_manage", boolean);
    let stream_replicas = reader.value("nats_stream_replicas", count(1..=5));
    Ok(Nats {
        servers: servers?,
        login: login?,
        ca_file: ca_file?,
        client_cert: client_cert?,
        js_domain: js_domain?,
        inbox_prefix: inbox_prefix?,
        manage: manage?,
        stream_replicas: stream_replicas?,
    })
}

/// A host and a port that are set apart from each other, as `host:port`, if either is set.
pub(super) fn address(reader: &mut Reader, host_name: &'static str, port_name: &'static str) -> Result<Option<String>, Reported> {
    let (host, port) = (reader.value(host_name, host), reader.value(port_name, port));
    let whole = format!("{}:{}", host?, port?);
    Ok((reader.is_set(host_name) || reader.is_set(port_name)).then_some(whole))
}

fn servers(reader: &mut Reader) -> Result<Vec<String>, Reported> {
    let urls = reader.optional("nats_url", list(server));
    // All of them are read, so that all their errors come to light.
    let ours = address(reader, "nats_host", "nats_port");
    let theirs = address(reader, "faas_nats_address", "faas_nats_port");
    let (urls, ours, theirs) = (urls?, ours?, theirs?);
    let address = ours.or(theirs).unwrap_or_else(|| "127.0.0.1:4222".to_owned());
    Ok(urls.unwrap_or_else(|| vec![format!("nats://{address}")]))
}

fn server(text: &str) -> Read<String> {
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
        Ok(url) if fits(&url) => Ok(whole),
        _ => Err("expected one or more URLs such as nats://nats:4222 or tls://nats:4222, comma separated".to_owned()),
    }
}

fn login(reader: &mut Reader, servers: &[String]) -> Result<Login, Reported> {
    let creds = reader.optional("nats_creds_file", file);
    let nkey = reader.optional("nats_nkey_file", file);
    let token = reader.optional("nats_token_file", file);
    let user = pair(reader, ("nats_user", |text: &str| Ok(text.to_owned())), ("nats_password_file", file));

    let mut ways: Vec<&str> = ["nats_creds_file", "nats_nkey_file", "nats_token_file", "nats_user"].into();
    ways.retain(|name| reader.is_set(name));
    // A login in a URL goes into every connection, beside whatever else is set.
    if !ways.is_empty() && servers.iter().any(|url| url.contains('@')) {
        ways.push("nats_url");
    }
    if let [first, others @ ..] = ways.as_slice()
        && !others.is_empty()
    {
        let others: Vec<_> = others.iter().map(|name| reader.shown(name)).collect();
        return Err(reader.fault(first, format!("expected only one way to log in, but {} is set too", others.join(", "))));
    }
    Ok(match (creds?, nkey?, token?, user?) {
        (Some(file), ..) => Login::Creds(file),
        (_, Some(file), ..) => Login::Nkey(file),
        (.., Some(file), _) => Login::Token(file),
        (.., Some((user, file))) => Login::UserPassword(user, file),
        _ => Login::None,
    })
}

/// Two settings of which neither means anything without the other.
fn pair<A, B>(
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
