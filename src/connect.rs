//! From settings to a connection that keeps itself up. A broker that is absent is waited for; one that says no ends the program.

use std::{io, path::Path, time::Duration};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::config::{Login, Nats};

/// Reconnects are at most this far apart, plus a jitter of a fifth, so that a restarted broker is found at once and a herd is not.
const RECONNECT: Duration = Duration::from_millis(400);
/// A connection that does not stand by then is tried anew.
const CONNECT: Duration = Duration::from_secs(5);
/// Credentials that are refused for so long after the connection broke were taken away; a restart reads their files again.
const REFUSED: Duration = Duration::from_secs(30);

/// Why there is no connection and will be none.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The broker refused the credentials.
    #[error("NATS refused the credentials")]
    Refused,
    /// A file of the settings cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why it cannot be read.
        error: io::Error,
    },
    /// What was set cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// The state of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// How often it was made.
    pub made: u64,
    /// Whether it stands.
    pub up: bool,
    /// Since when it stands, or does not.
    pub since: Instant,
}

/// A connection, and what happens to it.
#[derive(Debug)]
pub struct Connection {
    /// The connection.
    pub client: Client,
    /// Follows its state.
    pub link: watch::Receiver<Link>,
    /// What the broker denies for good: a right, with its subject, or the log-in.
    pub denied: watch::Receiver<Option<String>>,
}

/// Connects, however long the broker is away.
///
/// # Errors
/// See [`ConnectError`]: what waiting cannot mend.
pub async fn connect(settings: &Nats) -> Result<Connection, ConnectError> {
    let (link, link_seen) = watch::channel(Link { made: 0, up: false, since: Instant::now() });
    let (denied, denied_seen) = watch::channel(None);
    let mut said = false;
    loop {
        let options = options(settings, link.clone(), denied.clone()).await?;
        match options.connect(settings.servers.as_slice()).await {
            Ok(client) => return Ok(Connection { client, link: link_seen, denied: denied_seen }),
            Err(error) => match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => return Err(ConnectError::Refused),
                ConnectErrorKind::ServerParse => return Err(ConnectError::Unusable(format!("nats_url: {error}"))),
                kind => {
                    if !said {
                        tracing::warn!(reason = %kind, "NATS is not there yet; waiting for it");
                        said = true;
                    }
                }
            },
        }
        sleep(pause()).await;
    }
}

async fn options(
    settings: &Nats,
    link: watch::Sender<Link>,
    denied: watch::Sender<Option<String>>,
) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name("queue-worker")
        .custom_inbox_prefix(&settings.inbox_prefix)
        .connection_timeout(CONNECT)
        .ping_interval(Duration::from_secs(5))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| if attempt <= 1 { Duration::ZERO } else { pause() })
        .subscription_capacity(1 << 16)
        .event_callback(move |event| {
            note(&event, &link, &denied);
            std::future::ready(())
        });
    options = match &settings.login {
        Login::None => options,
        Login::Creds(path) => {
            options.credentials(&read(path).await?).map_err(|error| ConnectError::File { path: path.display().to_string(), error })?
        }
        Login::Nkey(path) => options.nkey(read(path).await?),
        Login::Token(path) => options.token(read(path).await?),
        Login::UserPassword(user, path) => options.user_and_password(user.clone(), read(path).await?),
    };
    if let Some(ca) = &settings.ca_file {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((cert, key)) = &settings.client_cert {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn note(event: &Event, link: &watch::Sender<Link>, denied: &watch::Sender<Option<String>>) {
    match event {
        Event::Connected => {
            link.send_modify(|link| *link = Link { made: link.made + 1, up: true, since: Instant::now() });
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => {
            link.send_modify(|link| *link = Link { up: false, since: Instant::now(), ..*link });
            tracing::warn!("lost the connection to NATS");
        }
        Event::ServerError(ServerError::Other(text)) if text.to_lowercase().contains("permissions violation") => {
            denied.send_replace(Some(text.clone()));
        }
        other => {
            let text = other.to_string();
            tracing::warn!(event = text, "NATS");
            let state = *link.borrow();
            if text.to_lowercase().contains("authorization violation") && !state.up && state.since.elapsed() > REFUSED {
                denied.send_replace(Some(text));
            }
        }
    }
}

fn pause() -> Duration {
    RECONNECT + RECONNECT.mul_f64(rand::random::<f64>() / 5.0)
}

async fn read(path: &Path) -> Result<String, ConnectError> {
    let path = path.to_owned();
    let shown = path.display().to_string();
    let text =
        tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    text.map(|text| text.trim().to_owned()).map_err(|error| ConnectError::File { path: shown, error })
}
