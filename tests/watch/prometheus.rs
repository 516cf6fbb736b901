//! A Prometheus of one's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command as Program,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::process::Command;
use url::form_urlencoded::byte_serialize;

use crate::support::{Scratch, Worker, eventually, free_port, http, process::Process};

/// The labels of a series or of an alert.
pub type Labels = BTreeMap<String, String>;

/// A running Prometheus that scrapes each second. Killed when dropped.
pub struct Prometheus {
    port: u16,
    process: Process,
    _scratch: Scratch,
}

impl Prometheus {
    /// One that evaluates these rules and has scraped all these workers. They carry labels as in Kubernetes.
    /// The rules come after the first scrape: before it every worker is absent.
    pub async fn watching(workers: &[&Worker], rules: &str) -> Self {
        let (scratch, port) = (Scratch::new(), free_port());
        let file = scratch.write("rules.yml", "");
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: openfaas/queue-worker\n  static_configs:\n"
            .to_owned();
        for (n, worker) in workers.iter().enumerate() {
            let address = format!("127.0.0.1:{}", worker.port());
            writeln!(
                config,
                "  - {{targets: [\"{address}\"], labels: {{namespace: openfaas, pod: queue-worker-{n}}}}}"
            )
            .unwrap();
        }
        let mut command = Command::new(binary());
        command.arg("--config.file").arg(scratch.write("prometheus.yml", &config));
        command.arg("--storage.tsdb.path").arg(scratch.path().join("data"));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        let process = Process::spawn("prometheus", command);
        let prometheus = Self { port, process, _scratch: scratch };
        eventually("Prometheus has scraped the workers", async || {
            let answer = prometheus.ask("query", &[("query", "queue_worker_ready")]).await;
            answer.is_some_and(|data| data["result"].as_array().unwrap().len() == workers.len())
        })
        .await;
        fs::write(file, rules).unwrap();
        prometheus.process.signal("HUP");
        eventually("Prometheus has read the rules", async || !prometheus.rules().await.is_empty()).await;
        prometheus
    }

    /// What a query yields now: of each series its labels and its value.
    pub async fn query(&self, query: &str) -> Vec<(Labels, f64)> {
        let data =
            self.ask("query", &[("query", query)]).await.unwrap_or_else(|| panic!("no answer to {query}"));
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
        series
            .iter()
            .map(|one| (labels(&one["metric"]), one["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }

    /// The names of the labels that the series of a metric carry.
    pub async fn labels_of(&self, metric: &str) -> BTreeSet<String> {
        let series = self.ask("series", &[("match[]", metric)]).await.unwrap();
        series.as_array().unwrap().iter().flat_map(|one| labels(one).into_keys()).collect()
    }

    /// Each rule: name and query.
    pub async fn rules(&self) -> Vec<(String, String)> {
        let data = self.ask("rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules
            .map(|rule| [&rule["name"], &rule["query"]].map(|text| text.as_str().unwrap().to_owned()).into())
            .collect()
    }

    /// The alerts that fire now: name, labels and annotations.
    pub async fn firing(&self) -> Vec<(String, Labels, Labels)> {
        let data = self.ask("alerts", &[]).await.unwrap();
        let firing = data["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| {
                let (labels, annotations) = (labels(&alert["labels"]), labels(&alert["annotations"]));
                (labels["alertname"].clone(), labels, annotations)
            })
            .collect()
    }

    /// The data behind a path of the API; `None` while it does not answer.
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let mut target = format!("/api/v1/{path}?");
        for (name, value) in parameters {
            write!(target, "{name}={}&", byte_serialize(value.as_bytes()).collect::<String>()).unwrap();
        }
        let (status, body) = http::get(self.port, &target).await.ok()?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        assert!(status != 400, "{path} {parameters:?}: {answer}");
        (status == 200).then(|| answer["data"].clone())
    }
}

fn labels(object: &Value) -> Labels {
    object
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// `PROMETHEUS`, else what the repository's own script provides.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        env::var_os("PROMETHEUS").map(PathBuf::from).unwrap_or_else(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/prometheus.sh");
            let output = Program::new(script).output().expect("no PROMETHEUS, no script");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().into()
        })
    })
}

/// `promtool`, which stands beside it, with these arguments in the repository's folder; panics with what it
/// prints when it fails.
pub fn promtool(arguments: &[&str]) {
    let tool = binary().with_file_name("promtool");
    let output = Program::new(tool)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("no promtool");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}
