//! The dashboard: what it shows is there, and what is there it shows.

use std::{collections::BTreeSet, process::Command};

use queue_worker::observe::metrics;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    ALERTS,
    prometheus::Prometheus,
    read,
    support::{Answer, Gateway, Invocation, Nats, QUEUE, Worker, eventually, free_port, stan::Peer},
};

const DASHBOARD: &str = "chart/queue-worker/files/dashboard.json";

/// The names in a text that begin like the program's metrics; the parts of a histogram count as it.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let names = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("queue_worker_"));
    let known = metrics::names();
    names
        .map(|name| {
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            histogram
                .filter(|histogram| known.iter().any(|known| known == histogram))
                .unwrap_or(name)
                .to_owned()
        })
        .collect()
}

/// The names of the labels that a query selects and groups by.
fn labels_in(query: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for selector in query.split('{').skip(1) {
        let matchers = selector.split('}').next().unwrap().split(',');
        labels.extend(matchers.map(|matcher| matcher.split(['=', '!']).next().unwrap().trim().to_owned()));
    }
    for word in ["by (", "on ("] {
        let groups = query.split(word).skip(1).map(|rest| rest.split(')').next().unwrap());
        labels.extend(groups.flat_map(|group| group.split(',')).map(|label| label.trim().to_owned()));
    }
    labels.retain(|label| !label.is_empty());
    labels
}

/// The labels that a legend writes out.
fn labels_of(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next())
}

/// Each query of the dashboard: its panel, the query, its legend. The variables are left at "All".
fn queries() -> Vec<(String, String, String)> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let [title, query, legend] = [&panel["title"], &target["expr"], &target["legendFormat"]]
                .map(|text| text.as_str().unwrap().to_owned());
            let query = ["$namespace", "$job", "$queue_name", "$function_name"]
                .iter()
                .fold(query, |query, name| query.replace(name, ".*"));
            let query = query.replace("$__rate_interval", "30s").replace("$__range", "30s");
            assert!(!query.contains('$'), "{title}: {query}");
            queries.push((title, query, legend));
        }
    }
    assert!(queries.len() > 20);
    queries
}

#[test]
fn the_dashboard_is_what_its_script_makes() {
    let made = Command::new("python3")
        .arg("chart/dashboard.py")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("no python3");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stdout == read(DASHBOARD).as_bytes(), "run chart/dashboard.py > {DASHBOARD}");
}

#[test]
fn the_dashboard_shows_every_metric_and_neither_it_nor_an_alert_any_other() {
    let all: BTreeSet<_> = metrics::names().into_iter().collect();
    assert_eq!(metrics_in(&read(DASHBOARD)), all);
    let unknown: Vec<_> = metrics_in(&read(ALERTS)).into_iter().filter(|name| !all.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Posts nothing to the ingress, and waits for the end of the answer.
async fn post(port: u16, target: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request =
        format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn every_panel_shows_something_and_every_label_exists() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "bad" { 500 } else { 200 })).await;
    let receiver =
        Gateway::start(|call| Answer::status(if call.target() == "/bad" { 400 } else { 202 })).await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms").set("max_retry_attempts", 2);
    let door = free_port();
    let settings = settings.set("stan_bridge", true).set("function_lookup_ttl", "1s");
    let settings = settings.set("audit", "all");
    let settings = settings.set("ingress_addr", format!("127.0.0.1:{door}"));
    let worker = settings.start().await;
    assert_eq!(settings.run("queue pause --function idle").await.code, 0);
    let prometheus = Prometheus::watching(&[&worker], &read(ALERTS)).await;

    // What happens goes on happening, so that counters that began with it are seen to rise.
    let queries = queries();
    let mut peer = Peer::connect(&nats).await;
    let (mut n, mut empty) = (0, Vec::new());
    eventually("every panel shows something", async || {
        for (function, path) in [("good", "good"), ("good", "bad"), ("bad", "good")] {
            n += 1;
            let invocation = Invocation::of(function).call_id(&format!("{n}"));
            nats.publish(&invocation.callback(&format!("{}/{path}", receiver.url()))).await;
        }
        peer.publish(QUEUE, Invocation::of("good").to_bytes()).await.unwrap();
        for target in ["/async-function/good", "/nowhere"] {
            post(door, target).await;
        }
        settings.run("dead-letters redrive --function bad --yes --detach").await;
        empty.clear();
        for (title, query, _) in &queries {
            if prometheus.query(query).await.is_empty() {
                empty.push(title.clone());
            }
        }
        if n % 300 == 0 {
            println!("nothing to see after {n} calls: {empty:?}");
        }
        empty.is_empty()
    })
    .await;

    let rules = prometheus.rules().await.into_iter().map(|(name, query)| (name, query, String::new()));
    for (title, query, legend) in queries.into_iter().chain(rules) {
        let mut known: BTreeSet<String> = prometheus.labels_of("up").await;
        for metric in metrics_in(&query) {
            known.extend(prometheus.labels_of(&format!("{{__name__=~\"{metric}(_bucket)?\"}}")).await);
        }
        let unknown: Vec<_> = labels_in(&query).into_iter().filter(|label| !known.contains(label)).collect();
        assert!(unknown.is_empty(), "{title}: {query} has {unknown:?}, there are {known:?}");
        let series = prometheus.query(&query).await;
        for label in labels_of(&legend) {
            assert!(
                series.iter().all(|(labels, _)| labels.contains_key(label)),
                "{title}: no {label} in {series:?}"
            );
        }
    }
}
