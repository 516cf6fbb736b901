//! Gathers the facts. Everything is asked within one bound; what has no answer by then counts as not seen.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    ask::Ask,
    facts::{Away, Broker, Facts, Place, QueueFacts, Seen},
    pages,
};
use crate::{
    broker::{
        connect::{Connection, attempt},
        version::version,
    },
    config::{Audited, Config, Loaded, Queue},
    message::names::{DUE_CONSUMER, Names},
    outbound::callback::HttpPost,
    tasks::supervisor::Supervisor,
};

/// How long one attempt to connect may take, whatever the number of servers.
const CONNECT: Duration = Duration::from_secs(10);
/// The variables that callbacks take a proxy from.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
/// How often a queue is counted until nothing happened meanwhile.
const COUNTS: usize = 3;

/// Looks at everything, for no longer than about `patience`.
pub async fn look(loaded: Loaded, monitor: Option<&Url>, patience: Duration) -> Facts {
    let (config, until) = (&loaded.config, Instant::now() + patience);
    let (place, gateway, broker) =
        tokio::join!(place(config), pages::gateway(config), broker(config, monitor, until));
    Facts { place, gateway, broker, loaded }
}

async fn place(config: &Config) -> Place {
    Place {
        kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        proxies: PROXIES
            .into_iter()
            .filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
            .collect(),
        ready: pages::ready(config.listen_addr).await,
        secrets: HttpPost::new(config.callback.clone(), &Supervisor::default())
            .err()
            .map(|error| error.to_string()),
    }
}

async fn broker(config: &Config, monitor: Option<&Url>, until: Instant) -> Result<Broker, Away> {
    let connected = timeout_at(until.min(Instant::now() + CONNECT), attempt(&config.nats)).await;
    let connection = match connected {
        Err(_elapsed) => Err(Away::Absent("no connection in time".to_owned())),
        Ok(Err(refused)) => Err(Away::ForGood(refused)),
        Ok(Ok(Err(absent))) => Err(Away::Absent(absent)),
        Ok(Ok(Ok(connection))) => Ok(connection),
    }?;
    Ok(known(config, connection, monitor, until).await)
}

async fn known(config: &Config, connection: Connection, monitor: Option<&Url>, until: Instant) -> Broker {
    let ask = Ask::new(connection, config.nats.js_domain.as_deref(), until);
    let server = ask.client().server_info();
    let monitored = pages::monitored(&config.nats.servers, &server.connect_urls, monitor).await;
    let (mut queues, mut skew) = (Vec::new(), None);
    for queue in &config.queues {
        let (facts, apart) = queue_facts(&ask, config, queue).await;
        skew = skew.or(apart);
        queues.push(facts);
    }
    let streaming = match &config.stan_cluster {
        Some(cluster) => Some(ask.streaming(cluster).await),
        None => None,
    };
    Broker {
        version: version(&server.version),
        release: server.version,
        name: server.server_name,
        tls: server.tls_required
            || config.nats.servers.iter().any(|url| url.starts_with("tls:"))
            || config.nats.ca_file.is_some(),
        max_payload: u64::try_from(server.max_payload).unwrap_or(u64::MAX),
        skew,
        account: ask.account().await,
        monitored,
        streaming,
        queues,
    }
}

/// One queue, and how far the clocks are apart.
async fn queue_facts(ask: &Ask, config: &Config, queue: &Queue) -> (QueueFacts, Option<Duration>) {
    let names = queue.names();
    let (stream, skew) = ask.timed(&names.stream).await;
    let facts = QueueFacts {
        stream,
        retries: ask.stream(&names.retries).await,
        dead: if config.dead_letters.enabled { ask.stream(&names.dead).await } else { Ok(None) },
        operations: if config.dead_letters.enabled { ask.operations(&names).await } else { Ok(false) },
        audit: if config.audit.level == Audited::Nothing { Ok(false) } else { ask.audit(&names).await },
        paused: ask.paused(&names).await,
        fresh: ask.consumer(&names.stream, &queue.durable).await,
        due: ask.consumer(&names.retries, DUE_CONSUMER).await,
        levels: ask.levels(&names).await,
        held: ask.any(&names.retries, &names.scheduled_subjects()).await,
        consumers: ask.consumers(&names.stream).await,
        orphans: orphans(ask, &names, &queue.durable).await.ok().flatten(),
        queue: queue.clone(),
        names,
    };
    (facts, skew)
}

/// How many messages of a work queue its only consumer neither has before it nor waits for; nothing where
/// that cannot be told, because messages come and go meanwhile or other consumers take some.
async fn orphans(ask: &Ask, names: &Names, durable: &str) -> Seen<Option<u64>> {
    for _ in 0..COUNTS {
        let Some(before) = ask.stream(&names.stream).await? else { return Ok(None) };
        let Some(consumer) = ask.consumer(&names.stream, durable).await? else { return Ok(None) };
        let Some(after) = ask.stream(&names.stream).await? else { return Ok(None) };
        if before.state.consumer_count != 1 || !before.config.is_work_queue() {
            return Ok(None);
        }
        let (messages, last) = (before.state.messages, before.state.last_seq);
        if (messages, last) == (after.state.messages, after.state.last_seq) {
            return Ok(Some(messages.saturating_sub(consumer.unsettled())));
        }
    }
    Ok(None)
}
