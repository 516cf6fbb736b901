//! The worker in the place of others: the environment and the arguments just as OpenFaaS's charts render
//! them, with the addresses of this machine. Where a chart leaves a wait at 10 s, the message itself asks for
//! a shorter one.

use std::{fs, path::Path, process::Command};

use async_nats::{ConnectOptions, HeaderMap};

use crate::support::{
    Answer, Call, Gateway, Invocation, Latch, Nats, QUEUE, Settings, Worker, eventually, eventually_is,
};

/// What Kubernetes tells a container about the services beside it.
const SERVICE_LINKS: &[(&str, &str)] = &[
    ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("NATS_SERVICE_HOST", "10.96.0.2"),
    ("NATS_SERVICE_PORT", "4222"),
    ("NATS_PORT", "tcp://10.96.0.2:4222"),
    ("NATS_PORT_4222_TCP_ADDR", "10.96.0.2"),
    ("GATEWAY_SERVICE_HOST", "10.96.0.3"),
    ("GATEWAY_PORT", "tcp://10.96.0.3:8080"),
    ("HOSTNAME", "queue-worker-6d4cf56db6-abcde"),
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/"),
];

/// What both Pro charts render from their default values.
const PRO: &[(&str, &str)] = &[
    ("max_inflight", "50"),
    ("scaling_mode", "static"),
    ("consumer_inactive_threshold", "30s"),
    ("tls_insecure", "false"),
    ("debug", "false"),
    ("log_encoding", "console"),
    ("nats_stream_replicas", "1"),
    ("ack_wait", "60s"),
    ("limiter_enabled", "true"),
    ("upstream_timeout", "1m"),
    ("max_retry_attempts", "100"),
    ("max_retry_wait", "120s"),
    ("initial_retry_wait", "10s"),
    ("retry_http_codes", "408,429,500,502,503,504"),
    ("backoff", ""),
];

fn answer(call: &Call) -> Answer {
    Answer::status(if call.nth == 1 { 500 } else { 200 })
}

fn with(settings: Settings, variables: &[(&str, &str)]) -> Settings {
    variables.iter().fold(settings, |settings, (name, value)| settings.set(name, value))
}

/// The worker serves the queue: a call that fails once, is parked and ends.
async fn serves(settings: &Settings, queue: &str, nats: &Nats, gateway: &Gateway) -> Worker {
    let before = gateway.count();
    let worker = settings.start().await;
    let invocation =
        Invocation::of("f").call_id(&format!("{queue}-{before}")).retry_annotation("min_wait", "10ms");
    nats.publish_raw(queue, HeaderMap::new(), invocation.to_bytes()).await;
    gateway.await_ended(before + 2).await;
    eventually("settled", async || {
        nats.count(queue).await + nats.count(&format!("{queue}-retries")).await == 0
    })
    .await;
    worker
}

#[tokio::test]
async fn in_the_community_chart() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let settings = with(Worker::bare(), SERVICE_LINKS)
        .set("faas_nats_address", "127.0.0.1")
        .set("faas_nats_port", nats.port());
    let settings =
        settings.set("faas_gateway_address", "127.0.0.1").set("faas_gateway_port", gateway.address().port());
    let chart = [
        ("faas_nats_cluster_name", "stan"),
        ("faas_nats_channel", "faas-request"),
        ("faas_nats_queue_group", "faas"),
        ("faas_function_suffix", ".openfaas-fn.svc.cluster.local"),
        ("ack_wait", "60s"),
        ("max_inflight", "1"),
        ("secret_mount_path", "/var/secrets/gateway"),
        ("basic_auth", "true"),
    ];
    let mut worker = serves(&with(settings, &chart), "faas-request", &nats, &gateway).await;
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn in_the_first_pro_chart() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let settings = with(Worker::bare(), SERVICE_LINKS)
        .set("faas_nats_address", "127.0.0.1")
        .set("faas_nats_port", nats.port());
    let settings =
        settings.set("faas_gateway_address", "127.0.0.1").set("faas_gateway_port", gateway.address().port());
    let chart = [
        ("faas_nats_channel", "faas-request"),
        ("faas_nats_queue_group", "faas"),
        ("gateway_invoke", "true"),
        ("ack_wait", "60s"),
        ("max_inflight", "50"),
        ("max_retry_attempts", "10"),
        ("max_retry_wait", "120s"),
        ("initial_retry_wait", "10s"),
        ("retry_http_codes", "429,502,500,504,408"),
        ("print_request_body", "false"),
        ("print_response_body", "false"),
        ("tls_insecure", "false"),
        ("secret_mount_path", "/var/secrets/gateway"),
        ("basic_auth", "true"),
    ];
    let settings =
        with(settings, &chart).called("worker").argument("-license-file=/var/secrets/license/license");
    let mut worker = serves(&settings, "faas-request", &nats, &gateway).await;
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn in_the_pro_chart() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let settings = with(with(Worker::bare(), SERVICE_LINKS), PRO)
        .set("nats_host", "127.0.0.1")
        .set("nats_port", nats.port());
    let settings = settings
        .set("gateway_url", gateway.url())
        .set("nats_stream", "faas-request")
        .set("nats_durable", "faas-workers");
    let settings = settings.set("default_function_name", "openfaas-fn").called("jetstream-queue-worker");
    let settings = settings.argument("-license-file=/var/secrets/license/license").argument("-pprof=true");
    let mut worker = serves(&settings, "faas-request", &nats, &gateway).await;
    let metrics = worker.metrics().await;
    let calls = [("queue_name", "faas-request"), ("function_name", "f.openfaas-fn")];
    assert_eq!(metrics.value("queue_worker_attempts_total", &calls), 2.0);
    assert_eq!(worker.drain().await, 0);
    let complaints = worker.log_with("expected");
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[tokio::test]
async fn in_the_pro_chart_with_a_token() {
    let login = || ConnectOptions::with_token("s3cr3t".to_owned());
    let nats = Nats::start_with_login("authorization { token: s3cr3t }", login).await;
    let gateway = Gateway::start(answer).await;
    let secret = crate::support::Scratch::new();
    let token = secret.write("token", "s3cr3t\n");
    let settings = with(with(Worker::bare(), SERVICE_LINKS), PRO)
        .set("nats_host", "127.0.0.1")
        .set("nats_port", nats.port());
    let settings = settings
        .set("gateway_url", gateway.url())
        .set("nats_stream", "faas-request")
        .called("jetstream-queue-worker");
    let settings = settings.argument("-license-file=/var/secrets/license/license");
    let settings = settings.argument(&format!("-nats-token-file={}", token.display()));
    let mut worker = serves(&settings, "faas-request", &nats, &gateway).await;
    assert_eq!(worker.drain().await, 0);
}

#[tokio::test]
async fn in_the_chart_of_a_dedicated_queue() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let settings = with(with(Worker::bare(), SERVICE_LINKS), PRO)
        .set("nats_host", "127.0.0.1")
        .set("nats_port", nats.port());
    let chart = [
        ("nats_durable", "custom-workers"),
        ("queue_partitions", "1"),
        ("filter_partition", "0"),
        ("adaptive_concurrency", "true"),
        ("max_inflight", "1"),
        ("ack_wait", "30s"),
    ];
    let settings = with(settings.set("gateway_url", gateway.url()), &chart).called("jetstream-queue-worker");
    let settings = settings.argument("-license-file=/var/secrets/license/license");
    // A stream by its name, and with the queue's name beside it.
    for (stream, queue) in [("custom-request", ""), ("slow-queue", "slow-queue")] {
        let settings = settings.clone().set("nats_stream", stream).set("queue_name", queue);
        let mut worker = serves(&settings, stream, &nats, &gateway).await;
        assert_eq!(nats.consumer(stream, "custom-workers").await.config.ack_wait.as_secs(), 30);
        assert_eq!(worker.drain().await, 0);
    }
}

#[tokio::test]
async fn two_replicas_show_the_same_depth() {
    let latch = Latch::new();
    let held = latch.clone();
    let (nats, gateway) = (Nats::start().await, Gateway::start(move |_| Answer::ok().held_by(&held)).await);
    let settings = Worker::of(&nats, &gateway).set("max_inflight", 1);
    let workers = [settings.start().await, settings.start().await];
    nats.publish_all((0..30).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
    gateway.await_calls(2).await;
    let all = [("queue_name", QUEUE), ("function_name", "all-functions")];
    for worker in &workers {
        eventually_is("the depth and what was submitted", true, async || {
            let pending = nats.consumer(QUEUE, "faas-workers").await.num_pending;
            let metrics = worker.metrics().await;
            let shown = metrics.value("queue_worker_pending_messages", &all);
            let submitted = metrics.value("queue_worker_messages_submitted_total", &[("queue_name", QUEUE)]);
            (20..=28).contains(&pending)
                && shown.to_string() == pending.to_string()
                && submitted.to_string() == "30"
        })
        .await;
    }
    latch.open();
    nats.await_counts([0, 0, 0]).await;
}

/// Makes everything read-only for a program of no privileges in an empty folder, proves that nothing can be
/// written, and starts it.
const SEALED: &str = r#"
set -e
mount -t tmpfs none /mnt
mkdir /mnt/bin /mnt/empty
mount --bind "$(dirname "$1")" /mnt/bin
while read -r _ point _ options _; do
    case "$options" in rw*) mount -o remount,bind,ro "$point" 2>/dev/null || true ;; esac
done < /proc/self/mounts
cd /mnt/empty
program="/mnt/bin/$(basename "$1")"
shift
exec setpriv --reuid 10001 --regid 10001 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs sh -c '
    for folder in / /tmp /var/tmp /dev/shm /mnt/bin .; do
        if touch "$folder/written" 2>/dev/null; then echo "could write to $folder" >&2; exit 99; fi
    done
    exec "$@"' sh "$program" "$@"
"#;

/// Files that the process has open for more than reading.
fn written(id: u32) -> Vec<String> {
    let process = Path::new("/proc").join(id.to_string());
    let open = fs::read_dir(process.join("fd")).unwrap().flatten().filter(|entry| {
        let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap_or_default();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        // The lowest two bits: 0 is reading only.
        flags.is_some_and(|flags| flags & 3 != 0)
            && fs::metadata(entry.path()).is_ok_and(|file| file.is_file())
    });
    open.map(|entry| format!("{:?}", fs::read_link(entry.path()))).collect()
}

#[tokio::test]
async fn on_a_read_only_root_as_nobody_in_particular() {
    let (nats, gateway) = (Nats::start().await, Gateway::start(answer).await);
    let settings = Worker::of(&nats, &gateway).set("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // A namespace of its own takes privileges that not every machine gives. Where it gives none, what the
    // worker opens is looked at instead.
    let sealed = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    let sealed = sealed.is_ok_and(|probe| probe.status.success());
    let settings = if sealed {
        settings.through(&[
            "/usr/bin/unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            SEALED,
            "sh",
        ])
    } else {
        eprintln!("no mount namespace can be had here: only the files that the worker opens are looked at");
        settings
    };
    let mut worker = serves(&settings, QUEUE, &nats, &gateway).await;
    assert_eq!(written(worker.id()), Vec::<String>::new());
    if sealed {
        let status = fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
        assert!(status.contains("Uid:\t10001\t10001\t10001\t10001"), "{status}");
    }
    assert_eq!(worker.drain().await, 0);
}
