//! The facts that were seen, with nothing concluded yet.

use std::time::Duration;

use crate::{
    broker::{
        connect::ConnectError,
        jetstream::{Account, ConsumerInfo, StreamInfo},
        known_issues::Sync,
        levels::Level,
        version::Version,
    },
    config::{Loaded, Queue},
    message::{names::Names, pause::Pauses},
};

/// Something that was looked for, or why it could not be seen.
pub type Seen<T> = Result<T, Unseen>;

/// Why something could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unseen {
    /// A right is missing.
    #[error("the right to {0} is missing")]
    Right(String),
    /// There was no answer, or none that tells anything.
    #[error("{0}")]
    Silent(String),
}

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The settings.
    pub loaded: Loaded,
    /// The surroundings of this process.
    pub place: Place,
    /// The answers of the gateway.
    pub gateway: Gateway,
    /// The broker, or why there is no connection to it.
    pub broker: Result<Broker, Away>,
}

/// Why there is no connection to the broker.
#[derive(Debug)]
pub(crate) enum Away {
    /// It may be there later.
    Absent(String),
    /// It says no, or cannot be asked.
    ForGood(ConnectError),
}

/// The surroundings of this process.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Whether this is a Pod of Kubernetes.
    pub(crate) kubernetes: bool,
    /// The variables that name proxies for callbacks.
    pub proxies: Vec<&'static str>,
    /// What answers `/readyz` where the worker listens: status and text, or nothing where nobody does.
    pub ready: Option<Seen<(u16, String)>>,
    /// Why the secrets that callbacks are signed with cannot be used.
    pub secrets: Option<String>,
}

/// The answers of the gateway.
#[derive(Debug)]
pub struct Gateway {
    /// To `/healthz`, and after how long; nothing where no queue's messages go there.
    pub(crate) health: Option<Seen<(u16, Duration)>>,
    /// To a question for a function that does not exist, where functions are looked up.
    pub function: Option<Seen<u16>>,
}

/// The broker as it shows itself.
#[derive(Debug)]
pub struct Broker {
    /// The name of the server that is connected to.
    pub name: String,
    /// Its version, as it writes it.
    pub release: String,
    /// Its version.
    pub version: Version,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The largest message.
    pub max_payload: u64,
    /// How far this machine's clock and the broker's are apart at least; absent where it tells no time.
    pub(crate) skew: Option<Duration>,
    /// The account and its limits.
    pub account: Seen<Account>,
    /// The servers whose monitoring could be read.
    pub(crate) monitored: Vec<Monitored>,
    /// Whether the bridge's clients find another NATS Streaming server, too.
    pub(crate) streaming: Option<Seen<bool>>,
    /// The queues.
    pub queues: Vec<QueueFacts>,
}

/// A server, as its monitoring shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Monitored {
    /// Its name.
    pub name: String,
    /// How it treats its disk.
    pub sync: Sync,
}

/// A queue as it stands in the broker.
#[derive(Debug)]
pub(crate) struct QueueFacts {
    /// Its settings.
    pub queue: Queue,
    /// Its names.
    pub names: Names,
    /// Its stream, if there is one.
    pub stream: Seen<Option<StreamInfo>>,
    /// The stream of its retries.
    pub retries: Seen<Option<StreamInfo>>,
    /// The stream of its dead letters.
    pub dead: Seen<Option<StreamInfo>>,
    /// Whether there is a stream of operations, or which right to carry out any is missing.
    pub operations: Seen<bool>,
    /// Whether there is an audit, or which right to write it is missing.
    pub audit: Seen<bool>,
    /// What an operator has paused.
    pub paused: Seen<Pauses>,
    /// The consumer of fresh invocations.
    pub fresh: Seen<Option<ConsumerInfo>>,
    /// The consumer of due retries.
    pub due: Seen<Option<ConsumerInfo>>,
    /// The consumers of the levels.
    pub levels: Seen<Vec<Level>>,
    /// Whether a retry is held for a schedule.
    pub held: Seen<bool>,
    /// All consumers of its stream.
    pub consumers: Seen<Vec<String>>,
    /// Messages of its stream that are neither pending nor delivered; absent where that cannot be told.
    pub orphans: Option<u64>,
}

impl QueueFacts {
    /// The streams that are there, each with what it is for.
    pub fn streams(&self) -> impl Iterator<Item = &StreamInfo> {
        [&self.stream, &self.retries, &self.dead]
            .into_iter()
            .filter_map(|stream| stream.as_ref().ok()?.as_ref())
    }
}

impl Broker {
    /// The laxest way that a server of these has with its disk, if each of them could be seen.
    pub fn sync(&self, servers: &[String]) -> Sync {
        let mut laxest = Sync::Always;
        for server in servers {
            match (self.monitored.iter().find(|seen| seen.name == *server).map(|seen| seen.sync), laxest) {
                (None | Some(Sync::Unknown), _) => return Sync::Unknown,
                (Some(Sync::Always), _) => {}
                (Some(Sync::Every(interval)), Sync::Every(other)) => {
                    laxest = Sync::Every(interval.max(other))
                }
                (Some(sync), _) => laxest = sync,
            }
        }
        laxest
    }

    /// The fewest servers that one of a queue's streams lies on, and the laxest way of those with their
    /// disks.
    pub(crate) fn weakest(&self, queue: &QueueFacts) -> Option<(u64, Sync)> {
        let all: Vec<_> = queue.streams().map(|info| self.peers(info)).collect();
        let fewest = all.iter().map(Vec::len).min()?;
        let servers: Vec<_> = all.into_iter().filter(|peers| peers.len() == fewest).flatten().collect();
        Some((u64::try_from(fewest).ok()?, self.sync(&servers)))
    }

    /// The servers that hold a stream, its leader first. One that is no cluster's names nobody but itself.
    ///
    /// Until NATS 2.10: it does not even name itself.
    pub fn peers(&self, stream: &StreamInfo) -> Vec<String> {
        let (leader, replicas) = (stream.cluster.leader.clone(), &stream.cluster.replicas);
        let first = if leader.is_none() && replicas.is_empty() { Some(self.name.clone()) } else { leader };
        first.into_iter().chain(replicas.iter().map(|replica| replica.name.clone())).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use std::ffi::OsString;

    use serde_json::json;

    use super::*;
    use crate::{
        broker::{
            jetstream::{Cluster, Settings},
            streams::desired,
        },
        config,
        message::timer,
    };

    /// Settings, as they stand in the environment.
    pub fn settings(set: &[(&str, &str)]) -> Loaded {
        config::load([], set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
            .unwrap()
    }

    /// A set-up in which all is well, with these settings.
    pub fn well(set: &[(&str, &str)]) -> Facts {
        // A drain that may cut calls off is worth a note by default.
        let is_set = set.iter().any(|(name, _)| *name == "upstream_timeout");
        let calls = (!is_set).then_some(("upstream_timeout", "20s"));
        let loaded = settings(&calls.into_iter().chain(set.iter().copied()).collect::<Vec<_>>());
        let replicas = json!([{ "name": "n2", "current": true }, { "name": "n3", "current": true }]);
        let cluster = json!({ "name": "c", "leader": "n1", "replicas": replicas });
        let cluster: Cluster = serde_json::from_value(cluster).unwrap();
        let stream = |mut config: Settings| {
            config.set("num_replicas", 3);
            config.set("discard", "old");
            Ok(Some(StreamInfo { config, cluster: cluster.clone(), ..StreamInfo::default() }))
        };
        let consumer = |wanted: desired::Consumer| {
            let config = wanted.settings(&loaded.config).unwrap();
            Ok(Some(ConsumerInfo { config, num_waiting: 1, ..ConsumerInfo::default() }))
        };
        let queues = loaded.config.queues.iter().map(|queue| {
            let names = queue.names();
            let of = desired::queue(&loaded.config, queue);
            QueueFacts {
                fresh: consumer(desired::Consumer::fresh(queue, &of)),
                due: consumer(desired::Consumer::due(&names)),
                stream: stream(of),
                retries: stream(desired::retries(&loaded.config, &names, true)),
                dead: stream(desired::dead(&loaded.config, &names)),
                levels: Ok((0..=timer::HIGHEST)
                    .map(|k| Level { k, held: 0, floor: 0, settings: None })
                    .collect()),
                held: Ok(false),
                operations: Ok(true),
                audit: Ok(true),
                paused: Ok(Pauses::default()),
                consumers: Ok(vec![queue.durable.clone()]),
                orphans: Some(0),
                queue: queue.clone(),
                names,
            }
        });
        let broker = Broker {
            name: "n1".to_owned(),
            release: "2.15.2".to_owned(),
            version: (2, 15, 2),
            tls: false,
            max_payload: 1 << 20,
            skew: Some(Duration::ZERO),
            account: Ok(Account { streams: 3, consumers: 2, ..Account::default() }),
            monitored: ["n1", "n2", "n3"]
                .map(|name| Monitored { name: name.to_owned(), sync: Sync::Always })
                .into(),
            streaming: None,
            queues: queues.collect(),
        };
        let health = Some(Ok((200, Duration::from_millis(3))));
        Facts {
            place: Place::default(),
            gateway: Gateway { health, function: None },
            broker: Ok(broker),
            loaded,
        }
    }

    #[test]
    fn of_several_servers_the_laxest_counts_and_one_that_is_not_seen_hides_the_rest() {
        let mut broker = well(&[]).broker.unwrap();
        let servers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(broker.sync(&servers(&["n1", "n2", "n3"])), Sync::Always);
        broker.monitored[1].sync = Sync::Every(Duration::from_secs(10));
        assert_eq!(broker.sync(&servers(&["n1", "n3"])), Sync::Always);
        assert_eq!(broker.sync(&servers(&["n1", "n2", "n3"])), Sync::Every(Duration::from_secs(10)));
        broker.monitored[2].sync = Sync::Every(Duration::from_secs(120));
        assert_eq!(broker.sync(&servers(&["n1", "n2", "n3"])), Sync::Every(Duration::from_secs(120)));
        assert_eq!(broker.sync(&servers(&["n1", "n4"])), Sync::Unknown);
    }

    #[test]
    fn a_stream_lies_on_its_leader_and_its_replicas() {
        let broker = well(&[]).broker.unwrap();
        let clustered = broker.queues[0].stream.clone().unwrap().unwrap();
        assert_eq!(broker.peers(&clustered), ["n1", "n2", "n3"]);
        let of = |stream: serde_json::Value| broker.peers(&serde_json::from_value(stream).unwrap());
        assert_eq!(of(json!({ "cluster": { "leader": "n7" } })), ["n7"]);
        assert_eq!(of(json!({})), ["n1"]);
        assert_eq!(of(json!({ "cluster": { "replicas": [{ "name": "n2" }] } })), ["n2"], "no leader");
    }
}
