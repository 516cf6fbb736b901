//! Three brokers that replicate what they store.

use std::time::Duration;

use async_nats::{
    ConnectOptions, ServerAddr,
    jetstream::{self, Context, stream},
};

use super::{Nats, eventually, free_port};

/// Brokers that know each other by the names `n0`, `n1` and `n2`.
pub struct Cluster {
    pub nodes: Vec<Nats>,
}

impl Cluster {
    /// A cluster that stores with three replicas, ready.
    pub async fn start() -> Self {
        let routes = [free_port(), free_port(), free_port()];
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let mut nodes = Vec::new();
        for (n, route) in routes.iter().enumerate() {
            let own = format!("cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: [{all}] }}");
            nodes.push(Nats::absent_with(&format!("server_name: n{n}\n{own}")));
        }
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.boot().await;
        }
        let js = cluster.connect().await;
        eventually("the cluster has a leader", async || {
            js.create_stream(stream::Config { name: "probe".into(), num_replicas: 3, ..Default::default() })
                .await
                .is_ok()
        })
        .await;
        js.delete_stream("probe").await.unwrap();
        cluster
    }

    /// The addresses of all.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// Ends one of them by SIGKILL.
    pub async fn kill(&mut self, n: usize) {
        self.nodes[n].kill().await;
    }

    /// A connection that goes to another broker when its own ends.
    pub async fn connect(&self) -> Context {
        let servers: Vec<ServerAddr> = self.nodes.iter().map(|node| node.url().parse().unwrap()).collect();
        let options = ConnectOptions::new().reconnect_delay_callback(|_| Duration::from_millis(50));
        jetstream::new(options.connect(servers).await.unwrap())
    }

    /// The place among the nodes of the broker that leads a stream. Waits until one does.
    pub async fn leader(&self, js: &Context, stream: &str) -> usize {
        let mut leader = None;
        eventually(&format!("{stream} has a leader"), async || {
            let info = js.get_stream(stream).await.ok().map(|stream| stream.cached_info().clone());
            leader = info.and_then(|info| info.cluster?.leader?.strip_prefix('n')?.parse().ok());
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// Awaits that every replica of a stream holds all of it.
    pub async fn replicated(&self, js: &Context, stream: &str) {
        eventually(&format!("{stream} is replicated"), async || {
            let Ok(stream) = js.get_stream(stream).await else { return false };
            let cluster = stream.cached_info().cluster.clone();
            cluster.is_some_and(|c| {
                c.leader.is_some()
                    && c.replicas.len() == 2
                    && c.replicas.iter().all(|replica| replica.current)
            })
        })
        .await;
    }
}
