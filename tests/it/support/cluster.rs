//! Three brokers on one machine.

use std::{path::PathBuf, process::Stdio};

use async_nats::jetstream::{self, stream};
use tokio::process::{Child, Command};

use super::{Scratch, binary, eventually, free_port};

/// Three brokers in a cluster, `n0` to `n2`, killed when dropped.
pub struct Cluster {
    nodes: Vec<Child>,
    ports: Vec<u16>,
    _scratch: Vec<Scratch>,
}

impl Cluster {
    /// Three brokers that have agreed on a leader.
    pub async fn start() -> Self {
        let (ports, routes) = ([free_port(), free_port(), free_port()], [free_port(), free_port(), free_port()]);
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        let (mut nodes, mut scratches) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let scratch = Scratch::new();
            let config = format!(
                "server_name: n{n}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: \"{}\" }}\ncluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{all}] }}\n",
                ports[n],
                scratch.path().join("store").display(),
                routes[n]
            );
            let file: PathBuf = scratch.write("nats.conf", &config);
            nodes.push(Command::new(binary()).arg("--config").arg(file).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap());
            scratches.push(scratch);
        }
        let cluster = Self { nodes, ports: ports.to_vec(), _scratch: scratches };
        eventually("the cluster has a leader", async || {
            let Ok(client) = async_nats::connect(cluster.url()).await else { return false };
            let js = jetstream::new(client);
            js.create_stream(stream::Config { name: "probe".into(), num_replicas: 3, ..Default::default() }).await.is_ok()
        })
        .await;
        cluster
    }

    /// The first of them.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports[0])
    }

    /// Ends one of them by SIGKILL.
    pub async fn kill(&mut self, n: usize) {
        self.nodes[n].kill().await.unwrap();
    }
}
