//! From settings to a connection that keeps itself up. A broker that is absent is waited for; one that says
//! no ends the program.

mod denials;
mod keeper;
mod link;

use std::{error::Error, io, path::Path, sync::Arc, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio::{sync::watch, time::sleep};

pub use denials::Denials;
pub(crate) use keeper::Keeper;
pub use link::Link;
use link::Notes;

use crate::config::{Login, Nats, UrlLogin};

/// Reconnects are at most this far apart, plus a jitter of a fifth, so that a restarted broker is found at
/// once and a herd is not.
const RECONNECT: Duration = Duration::from_millis(400);
/// A connection that does not stand by then is tried anew.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection and will be none.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker refused the credentials: these.
    #[error("NATS refused the credentials: {0}")]
    LoginRefused(Login),
    /// A file of the settings cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why it cannot be read.
        error: io::Error,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// A connection, and what happens to it.
#[derive(Debug)]
pub struct Connection {
    /// The client: another one after one that ended by itself.
    pub client: watch::Receiver<Client>,
    /// Follows the connection's state.
    pub link: watch::Receiver<Link>,
    /// What the broker denies for good: a right, with its subject, or the log-in.
    pub denied: Denials,
    /// Replaces a client that ended by itself, as long as it is kept running.
    pub(crate) keeper: Keeper,
}

/// Connects, however long the broker is away.
///
/// # Errors
/// See [`ConnectError`]: what waiting cannot mend.
pub(crate) async fn connect(settings: &Nats) -> Result<Connection, ConnectError> {
    let mut said = String::new();
    loop {
        match attempt(settings).await? {
            Ok(connection) => return Ok(connection),
            Err(reason) => {
                if said != reason {
                    tracing::warn!(reason, "NATS is not there yet; waiting for it");
                    said = reason;
                }
            }
        }
        sleep(pause()).await;
    }
}

/// Connects, or says why that did not succeed this time.
///
/// # Errors
/// See [`ConnectError`]: what waiting cannot mend.
pub(crate) async fn attempt(settings: &Nats) -> Result<Result<Connection, String>, ConnectError> {
    let notes = Arc::new(Notes::default());
    Ok(client(settings, &notes).await?.map(|first| {
        let (link, denied) = (notes.link(), notes.denied());
        let (keeper, client) = Keeper::new(settings, notes, first);
        Connection { client, link, denied, keeper }
    }))
}

/// Makes a client, whose events are noted once it is in its place.
async fn client(
    settings: &Nats,
    notes: &Arc<Notes>,
) -> Result<Result<(Client, watch::Sender<Option<Client>>), String>, ConnectError> {
    check_certificates(settings).await?;
    let (place, placed) = watch::channel(None);
    let options = options(settings).await?.event_callback({
        let notes = notes.clone();
        move |event| {
            let (notes, mut placed) = (notes.clone(), placed.clone());
            async move {
                if let Ok(client) = placed.wait_for(Option::is_some).await {
                    notes.note(&event, client.as_ref().map(Client::server_info));
                }
            }
        }
    });
    match options.connect(settings.servers.as_slice()).await {
        Ok(client) => Ok(Ok((client, place))),
        Err(error) => match error.kind() {
            ConnectErrorKind::AuthorizationViolation => {
                Err(ConnectError::LoginRefused(settings.login.clone()))
            }
            ConnectErrorKind::Authentication => Err(ConnectError::Unusable(format!(
                "{}: the seed cannot sign what the server asks",
                settings.login
            ))),
            ConnectErrorKind::ServerParse => Err(ConnectError::Unusable(format!("nats_url: {error}"))),
            kind if kind == ConnectErrorKind::Tls || is_tls(&error) => {
                Err(ConnectError::Unusable(format!("no TLS connection to NATS: {error}")))
            }
            _ => Ok(Err(error.to_string())),
        },
    }
}

/// Whether TLS itself said no, to a certificate or to a server that speaks something else: waiting mends
/// neither.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let inner =
        error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Reads the certificates once: the client reads them anew for each connection, and would say no more than
/// "TLS error".
async fn check_certificates(settings: &Nats) -> Result<(), ConnectError> {
    let bad = |path: &Path| {
        let path = path.display().to_string();
        move |error: pem::Error| ConnectError::File {
            path,
            error: io::Error::new(io::ErrorKind::InvalidData, error),
        }
    };
    let certificates = settings.ca_file.iter().chain(settings.client_cert.iter().map(|(cert, _)| cert));
    for path in certificates {
        let text = read(path).await?;
        let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
        found.next().unwrap_or(Err(pem::Error::NoItemsFound)).map_err(bad(path))?;
    }
    if let Some((_, key)) = &settings.client_cert {
        PrivateKeyDer::from_pem_slice(read(key).await?.as_bytes()).map_err(bad(key))?;
    }
    Ok(())
}

async fn options(settings: &Nats) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name("queue-worker")
        .custom_inbox_prefix(&settings.inbox_prefix)
        .connection_timeout(CONNECT)
        .ping_interval(Duration::from_secs(5))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| if attempt <= 1 { Duration::ZERO } else { pause() })
        .subscription_capacity(1 << 16);
    options = match &settings.login {
        Login::None => options,
        Login::Creds(path) => {
            // The client reads no last line without its end.
            let text = format!("{}\n", read(path).await?);
            options
                .credentials(&text)
                .map_err(|error| ConnectError::File { path: path.display().to_string(), error })?
        }
        Login::Nkey(path) => options.nkey(read(path).await?),
        Login::Token(path) => options.token(read(path).await?),
        Login::UserPassword(user, path) => options.user_and_password(user.clone(), read(path).await?),
        Login::InUrl(UrlLogin { user, password: Some(password) }) => {
            options.user_and_password(user.clone(), password.clone())
        }
        Login::InUrl(UrlLogin { user, password: None }) => options.token(user.clone()),
    };
    // Whoever names an authority or shows a certificate wants no connection without TLS, also where nobody
    // asks for one.
    if settings.ca_file.is_some() || settings.client_cert.is_some() {
        options = options.require_tls(true);
    }
    if settings.tls_first {
        options = options.tls_first();
    }
    if let Some(ca) = &settings.ca_file {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &settings.client_cert {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn pause() -> Duration {
    RECONNECT + RECONNECT.mul_f64(rand::random::<f64>() / 5.0)
}

async fn read(path: &Path) -> Result<String, ConnectError> {
    let path = path.to_owned();
    let shown = path.display().to_string();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(path))
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    text.map(|text| text.trim().to_owned()).map_err(|error| ConnectError::File { path: shown, error })
}
