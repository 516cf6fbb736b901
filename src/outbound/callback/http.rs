//! One POST to a receiver, if its address is allowed.
//!
//! ```text
//!  the URL's host ─▶ allowed_callback_urls? ─▶ callback_deny_private? ─▶ does the environment name a proxy?
//!                                              │ no: the client's addresses are filtered, and the
//!                                              │     connection goes to one that passed
//!                                              └ yes: the name is resolved here, and goes to the proxy if
//!                                                     every address passes; the proxy may be private
//! ```

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, header};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{
    Client,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use tokio::{net::lookup_host, time::timeout};
use url::{Host, Url};

use super::{NotPosted, Post, address::is_public, sign::Signer};
use crate::{
    config,
    flow::shortage::{Lately, Shortage},
    message::{http_headers::basic_auth, posting::Posting},
    outbound::invoke::{is_reachable, like_it, root},
    retry::{
        callback::Refused,
        judge::{Outcome, Reply},
    },
    tasks::{
        offload::Offload,
        renewed::FileError,
        supervisor::{Part, Supervisor},
    },
};

const NO_URL: Refused = Refused("it is no URL that a callback can be sent to");
const NOT_ALLOWED: Refused = Refused("its host is not among allowed_callback_urls");
const PRIVATE: Refused = Refused("its address is private");

/// Posts over HTTP. The clients are made when the first callback is due: most queues have none.
#[derive(Debug)]
pub struct HttpPost {
    settings: config::Callback,
    supervisor: Supervisor,
    signer: Option<Signer>,
    proxies: Matcher,
    clients: Mutex<Option<Arc<Clients>>>,
    lately: Lately,
}

/// The way there, and the way through the proxies that the environment names. Strangers answer on a thread of
/// their own.
#[derive(Debug)]
struct Clients {
    direct: Client,
    proxied: Client,
    offload: Offload,
}

impl HttpPost {
    /// Posts under these settings, on a thread that is kept running.
    ///
    /// # Errors
    /// Where the secrets that sign cannot be read.
    pub fn new(settings: config::Callback, supervisor: &Supervisor) -> Result<Self, FileError> {
        let signer = settings.signing_file.clone().map(Signer::new).transpose()?;
        Ok(Self {
            settings,
            supervisor: supervisor.clone(),
            signer,
            proxies: Matcher::from_env(),
            clients: Mutex::default(),
            lately: Lately::default(),
        })
    }

    async fn send(&self, posting: &Posting, id: &str) -> Result<Outcome, NotPosted> {
        let mut url = Url::parse(&posting.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or(NO_URL)?;
        if !self.settings.allowed.permits(&url) {
            return Err(NOT_ALLOWED.into());
        }
        let proxied = url
            .origin()
            .ascii_serialization()
            .parse()
            .is_ok_and(|uri| self.proxies.intercept(&uri).is_some());
        if self.settings.deny_private
            && let Err(outcome) = self.check(&url, proxied).await?
        {
            return Ok(outcome);
        }
        let clients = match self.clients() {
            Ok(clients) => clients,
            Err(error) => {
                // Without files the system's certificates cannot be read either, and the error says only that
                // then.
                if let Some(short) = self.lately.on_the_way(&error) {
                    return Err(NotPosted::Short(short));
                }
                tracing::error!(%error, "callbacks cannot be posted");
                return Ok(Outcome::Unreachable(format!("no HTTP client can be made: {error}")));
            }
        };
        let mut headers = posting.headers.clone();
        authorize(&mut headers, &mut url);
        if let Some(signer) = &self.signer {
            signer.sign(&mut headers, id, &posting.body, SystemTime::now()).await;
        }
        let client = if proxied { &clients.proxied } else { &clients.direct };
        let request = client.post(url).headers(headers).body(posting.body.clone());
        let Ok(posted) = timeout(self.settings.timeout, clients.offload.run(request.send())).await else {
            return Ok(Outcome::TimedOut);
        };
        let Some(answer) = posted else {
            return Ok(Outcome::Broken("the worker's thread for callbacks ended".to_owned()));
        };
        match answer {
            Ok(answer) => Ok(Outcome::Replied(Reply {
                status: answer.status().as_u16(),
                retry_after: answer
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
                ..Reply::default()
            })),
            Err(error) if is_private(&error) => Err(PRIVATE.into()),
            Err(error) if error.is_timeout() => Ok(Outcome::TimedOut),
            Err(error) => self.unanswered(error, &posting.url).await,
        }
    }

    /// The outcome of a POST without an answer.
    async fn unanswered(&self, error: reqwest::Error, url: &str) -> Result<Outcome, NotPosted> {
        let error = error.without_url();
        let (connected, cause) = (!error.is_connect(), root(&error));
        let short = if connected { Shortage::of(&error) } else { self.lately.on_the_way(&error) };
        drop(error);
        match short {
            None if connected => Ok(Outcome::Broken(cause)),
            None => Ok(Outcome::Unreachable(cause)),
            Some(Shortage::Ports) if !is_reachable(url).await => Ok(Outcome::Unreachable(cause)),
            Some(short) => {
                // Idle connections take files and ports, too.
                self.close_idle();
                Err(NotPosted::Short(short))
            }
        }
    }

    /// Looks at an address that stands in the URL, and at those behind a name that a proxy is to resolve
    /// again: which one it takes is not known, so that all have to be public. Gives the outcome of a name
    /// that cannot be resolved.
    async fn check(&self, url: &Url, proxied: bool) -> Result<Result<(), Outcome>, NotPosted> {
        let public = match url.host() {
            None => return Err(NO_URL.into()),
            Some(Host::Ipv4(address)) => is_public(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => is_public(IpAddr::V6(address)),
            Some(Host::Domain(_)) if !proxied => true,
            Some(Host::Domain(name)) => match timeout(self.settings.timeout, lookup_host((name, 0))).await {
                Ok(Ok(mut found)) => found.all(|address| is_public(address.ip())),
                Ok(Err(error)) => match self.lately.on_the_way(&error) {
                    Some(short) => return Err(NotPosted::Short(short)),
                    None => return Ok(Err(Outcome::Unreachable(error.to_string()))),
                },
                Err(_elapsed) => return Ok(Err(Outcome::TimedOut)),
            },
        };
        if public { Ok(Ok(())) } else { Err(PRIVATE.into()) }
    }

    /// The clients, made now where they are not there yet. A client that cannot be made now may be made for
    /// the next callback.
    fn clients(&self) -> io::Result<Arc<Clients>> {
        let mut made = self.made();
        if let Some(clients) = &*made {
            return Ok(clients.clone());
        }
        let clients = Arc::new(self.make()?);
        *made = Some(clients.clone());
        Ok(clients)
    }

    fn made(&self) -> MutexGuard<'_, Option<Arc<Clients>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<Clients> {
        let builder = || {
            like_it(Client::builder())
                .redirect(redirect::Policy::none())
                .timeout(self.settings.timeout)
                .pool_idle_timeout(Duration::from_secs(30))
                .tls_danger_accept_invalid_certs(self.settings.tls_insecure)
        };
        let direct =
            if self.settings.deny_private { builder().dns_resolver(Arc::new(PublicOnly)) } else { builder() };
        let direct = direct.no_proxy().build().map_err(io::Error::other)?;
        let proxied = builder().build().map_err(io::Error::other)?;
        Ok(Clients { direct, proxied, offload: Offload::start(Part::Callbacks, &self.supervisor)? })
    }
}

impl Post for HttpPost {
    fn post<'a>(&'a self, posting: &'a Posting, id: &'a str) -> BoxFuture<'a, Result<Outcome, NotPosted>> {
        self.send(posting, id).boxed()
    }

    fn close_idle(&self) {
        *self.made() = None;
    }
}

/// Takes user and password out of the URL and into the header for them.
fn authorize(headers: &mut HeaderMap, url: &mut Url) {
    if url.username().is_empty() && url.password().is_none() {
        return;
    }
    let plain = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let login = basic_auth(&plain(url.username()), &plain(url.password().unwrap_or_default()));
    // Both are refused only by URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if let Ok(value) = login {
        // Only a map of 32,768 names is full.
        drop(headers.try_insert(header::AUTHORIZATION, value));
    }
}

/// Resolves names, and keeps what is public.
struct PublicOnly;

/// None of a name's addresses is public.
#[derive(Debug, thiserror::Error)]
#[error("its addresses are private")]
struct Private;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            let any = !found.is_empty();
            let public: Vec<_> = found.into_iter().filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                false => Ok(Box::new(public.into_iter()) as Addrs),
                true if any => Err(Private.into()),
                true => Err(io::Error::other("the name has no address").into()),
            }
        })
    }
}

fn is_private(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<Private>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn user_and_password_leave_the_url_for_the_header() {
        let check = |text: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("the function's"));
            let mut url = Url::parse(text).unwrap();
            authorize(&mut headers, &mut url);
            assert_eq!(url.as_str(), "http://h/x?y");
            assert_eq!(headers[header::AUTHORIZATION], expected.unwrap_or("the function's"));
        };
        check("http://h/x?y", None);
        check("http://user:pw@h/x?y", Some("Basic dXNlcjpwdw=="));
        check("http://user@h/x?y", Some("Basic dXNlcjo="));
        check("http://us%40er:p%3A%C3%A9@h/x?y", Some("Basic dXNAZXI6cDrDqQ=="));
    }
}
