//! Questions over HTTP: a GET each, bounded in time and size, through no proxy and along no redirect.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use http::{HeaderValue, header::AUTHORIZATION};
use reqwest::{Client, ClientBuilder, redirect};
use serde_json::Value;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};
use url::Url;

use super::facts::{Gateway, Monitored, Seen, Unseen};
use crate::{
    broker::known_issues::{SYNC_INTERVAL, Sync},
    config::Config,
    message::decode::InvalidFunctionName,
    outbound::{
        invoke::{Trust, like_it, root},
        lookup::system,
    },
    text::line,
};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a page of the broker's monitoring may take: most often nobody listens there.
const MONITORING: Duration = Duration::from_secs(2);
/// Where NATS is monitored unless somebody chose otherwise.
const MONITORING_PORT: u16 = 8222;
/// How many addresses are asked at most.
const MOST: usize = 8;
/// The longest answer that is read.
const LONGEST: usize = 1 << 20;

/// The function that is asked for. That there is none of this name is an answer, too.
const NOBODY: &str = "queue-worker-doctor";

/// An answer.
struct Page {
    status: u16,
    body: Vec<u8>,
}

async fn get(url: &str, login: Option<HeaderValue>, limit: Duration) -> Result<Page, reqwest::Error> {
    get_by(Client::builder(), url, login, limit).await
}

async fn get_by(
    client: ClientBuilder,
    url: &str,
    login: Option<HeaderValue>,
    limit: Duration,
) -> Result<Page, reqwest::Error> {
    let client = client.redirect(redirect::Policy::none()).no_proxy().timeout(limit).build()?;
    let mut request = client.get(url);
    if let Some(login) = login {
        request = request.header(AUTHORIZATION, login);
    }
    let mut response = request.send().await?;
    let (status, mut body) = (response.status().as_u16(), Vec::new());
    while let Some(piece) = response.chunk().await? {
        let room = LONGEST - body.len();
        body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
        if body.len() == LONGEST {
            break;
        }
    }
    Ok(Page { status, body })
}

fn unseen(error: &reqwest::Error) -> Unseen {
    Unseen::Silent(if error.is_timeout() { "no answer in time".to_owned() } else { root(error) })
}

/// Asks the gateway whether it is well, and, where the worker looks functions up, for one in the worker's own
/// way. The list of all functions is another page: gateways without Prometheus break on it.
pub async fn gateway(config: &Config) -> Gateway {
    if config.queues.iter().all(|queue| queue.request.is_some()) {
        return Gateway { health: None, function: None };
    }
    let trust = match Trust::read(config.gateway_ca_file.as_deref()) {
        Ok(trust) => trust,
        Err(error) => {
            return Gateway { health: Some(Err(Unseen::Silent(error.to_string()))), function: None };
        }
    };
    let client = || trust.apply(like_it(Client::builder()));
    let base = config.gateway_url.as_str().trim_end_matches('/');
    let asked = Instant::now();
    let health = get_by(client(), &format!("{base}/healthz"), None, LIMIT).await;
    let health = health.map(|page| (page.status, asked.elapsed())).map_err(|error| unseen(&error));
    let function = match &config.function_lookup {
        None => None,
        Some(lookup) => Some(match lookup.secrets.as_deref().map(system::login).transpose() {
            Err(error) => Err(Unseen::Silent(format!("the files of the login cannot be read: {error}"))),
            Ok(login) => look_up(client(), base, login).await,
        }),
    };
    Gateway { health: Some(health), function }
}

async fn look_up(client: ClientBuilder, base: &str, login: Option<HeaderValue>) -> Seen<u16> {
    let nobody = NOBODY.parse().map_err(|error: InvalidFunctionName| Unseen::Silent(error.to_string()))?;
    get_by(client, &system::url(base, &nobody), login, LIMIT)
        .await
        .map(|page| page.status)
        .map_err(|error| unseen(&error))
}

/// Asks a worker that listens here whether it is ready; nothing where nobody listens.
pub async fn ready(listen: SocketAddr) -> Option<Seen<(u16, String)>> {
    // Who listens to all addresses listens to those of IPv4 on every system.
    let here = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    match get(&format!("http://{}/readyz", SocketAddr::new(here, listen.port())), None, LIMIT).await {
        Ok(Page { status, body }) => Some(Ok((status, line::ascii(&String::from_utf8_lossy(&body), 256)))),
        Err(error) if error.is_connect() => None,
        Err(error) => Some(Err(unseen(&error))),
    }
}

/// Reads the monitoring of each server that the settings and the broker name, where it can be read.
pub(crate) async fn monitored(servers: &[String], told: &[String], monitor: Option<&Url>) -> Vec<Monitored> {
    let mut places: Vec<(String, u16)> = Vec::new();
    let hosts = servers.iter().cloned().chain(told.iter().map(|address| format!("nats://{address}")));
    let hosts = hosts
        .filter_map(|server| Some(Url::parse(&server).ok()?.host_str()?.trim_matches(['[', ']']).to_owned()));
    places.extend(monitor.and_then(|url| {
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
    }));
    places.extend(hosts.map(|host| (host, MONITORING_PORT)));
    let found = places
        .into_iter()
        .map(async |place| timeout(MONITORING, lookup_host(place)).await.ok()?.ok().map(Iterator::collect));
    let mut addresses: Vec<SocketAddr> =
        join_all(found).await.into_iter().flatten().flat_map(|some: Vec<_>| some).collect();
    addresses.sort();
    addresses.dedup();
    let pages = addresses
        .into_iter()
        .take(MOST)
        .map(async |address| get(&format!("http://{address}/varz"), None, MONITORING).await.ok());
    join_all(pages)
        .await
        .into_iter()
        .flatten()
        .filter_map(|page| read(&serde_json::from_slice(&page.body).ok()?))
        .collect()
}

/// A server's name and how it treats its disk, in its own words.
fn read(varz: &Value) -> Option<Monitored> {
    let name = varz.get("server_name")?.as_str()?.to_owned();
    let jetstream = varz.pointer("/jetstream/config").filter(|config| config.get("store_dir").is_some());
    let sync = match jetstream {
        None => Sync::Unknown,
        // The interval stands there all the same.
        Some(config) if config.get("sync_always").and_then(Value::as_bool) == Some(true) => Sync::Always,
        Some(config) => Sync::Every(
            config.get("sync_interval").and_then(Value::as_u64).map_or(SYNC_INTERVAL, Duration::from_nanos),
        ),
    };
    Some(Monitored { name, sync })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_tells_how_it_treats_its_disk() {
        for (jetstream, sync) in [
            (
                json!({ "config": { "store_dir": "/data", "sync_interval": 120_000_000_000_u64 } }),
                Sync::Every(SYNC_INTERVAL),
            ),
            (
                json!({ "config": {
                    "store_dir": "/data", "sync_interval": 120_000_000_000_u64, "sync_always": true,
                } }),
                Sync::Always,
            ),
            // Until NATS 2.10: servers do not tell.
            (json!({ "config": { "store_dir": "/data" } }), Sync::Every(SYNC_INTERVAL)),
            (json!({}), Sync::Unknown),
        ] {
            let name = "n1".to_owned();
            assert_eq!(
                read(&json!({ "server_name": "n1", "jetstream": jetstream })),
                Some(Monitored { name, sync }),
                "{jetstream}"
            );
        }
        assert_eq!(read(&json!({ "status": "ok" })), None);
    }
}
