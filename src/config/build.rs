//! Builds the [`Config`]: reads every setting before it fails, so that all errors are reported.

use std::time::Duration;

use super::{
    Audit, Audited, Callback, Config, DeadLetters, Encoding, Log, Queue, RetryTimer,
    api::api,
    gateway::gateway,
    ingress::ingress,
    lookup::function_lookup,
    names,
    nats::nats,
    queue::queues,
    reader::{Reader, Reported},
    tracing::tracing,
    values::{at_least, boolean, choice, count, duration, file, listen, positive, size},
};
use crate::{
    config::allowed::AllowedHosts,
    retry::{
        backoff::{Backoff, Jitter},
        policy::{RetryPolicy, StatusCodes},
    },
};

pub(super) fn config(reader: &mut Reader) -> Result<Config, Reported> {
    let nats = nats(reader);
    let queues = queues(reader);
    let stan_cluster = stan_cluster(reader, queues.as_deref().unwrap_or_default());
    let gateway_url = gateway(reader);
    let gateway_ca_file = reader.optional("gateway_ca_file", file);
    let function_lookup = function_lookup(reader, stan_cluster.as_ref().is_ok_and(Option::is_some));
    let function_namespace = reader.value("function_namespace", names::word);
    let max_inflight = reader.value("max_inflight", count(1..=100_000));
    let max_inflight_bytes = reader.optional("max_inflight_bytes", bytes);
    let ack_wait = reader.value("ack_wait", |text| at_least(Duration::from_secs(1), text));
    let upstream_timeout = reader.value("upstream_timeout", positive);
    let retry = retry(reader);
    let retry_timer = retry_timer(reader);
    let confirm_acks = reader.value("confirm_acks", boolean);
    let dead_letters = dead_letters(reader);
    let callback = callback(reader);
    let shutdown_grace = reader.value("shutdown_grace", duration);
    let listen_addr = reader.value("listen_addr", listen);
    let ingress = ingress(reader);
    let api = api(reader);
    let log = log(reader);
    let tracing = tracing(reader);
    let audit = audit(reader);
    Ok(Config {
        nats: nats?,
        queues: queues?,
        stan_cluster: stan_cluster?,
        gateway_url: gateway_url?,
        gateway_ca_file: gateway_ca_file?,
        function_lookup: function_lookup?,
        function_namespace: function_namespace?,
        max_inflight: max_inflight?,
        max_inflight_bytes: max_inflight_bytes?,
        ack_wait: ack_wait?,
        upstream_timeout: upstream_timeout?,
        retry: retry?,
        retry_timer: retry_timer?.0,
        retries_max_bytes: retry_timer?.1,
        confirm_acks: confirm_acks?,
        dead_letters: dead_letters?,
        callback: callback?,
        shutdown_grace: shutdown_grace?,
        listen_addr: listen_addr?,
        ingress: ingress?,
        api: api?,
        log: log?,
        tracing: tracing?,
        audit: audit?,
    })
}

/// The cluster's name turns the bridge on; the bridge does not need the name.
fn stan_cluster(reader: &mut Reader, queues: &[Queue]) -> Result<Option<String>, Reported> {
    let bridge = reader.optional("stan_bridge", boolean);
    let cluster = reader.value("faas_nats_cluster_name", names::token);
    let wanted = bridge?.unwrap_or_else(|| reader.is_set("faas_nats_cluster_name"));
    let mut fed = queues.iter().filter(|queue| queue.request.is_none()).peekable();
    if wanted && !queues.is_empty() && fed.peek().is_none() {
        let expected = "expected openfaas for one queue at least, for the bridge stores nothing else";
        return Err(reader.fault("input", expected));
    }
    if wanted && let Some(queue) = fed.find(|queue| queue.subject() != queue.name) {
        let expected =
            format!("expected a filter that {} matches, which is what the bridge publishes on", queue.name);
        return Err(reader.fault("nats_filter_subject", expected));
    }
    Ok(Some(cluster?).filter(|_| wanted))
}

fn retry(reader: &mut Reader) -> Result<RetryPolicy, Reported> {
    let max_attempts = reader.value("max_retry_attempts", count(0..=u32::MAX));
    let codes = reader.value("http_retry_codes", str::parse::<StatusCodes>);
    let initial = reader.value("initial_retry_wait", duration);
    let max = reader.value("max_retry_wait", duration);
    let jitters = [("exponential", Jitter::None), ("full", Jitter::Full), ("equal", Jitter::Equal)];
    let jitter = reader.value("backoff", choice(&jitters));
    let immediate_retries = reader.value("immediate_retries", count(0..=u32::MAX));
    let max_retry_after = reader.value("max_retry_after", duration);
    let max_message_age = reader.value("max_message_age", duration);
    Ok(RetryPolicy {
        // Nothing is dropped without one try.
        max_attempts: max_attempts?.max(1),
        codes: codes?,
        backoff: Backoff { initial: initial?, max: max?, jitter: jitter? },
        immediate_retries: immediate_retries?,
        max_retry_after: max_retry_after?,
        max_message_age: Some(max_message_age?).filter(|age| !age.is_zero()),
    })
}

/// The timer, and the size of the stream that it works in. A stream that is full has to refuse, and NATS
/// gives message schedules to streams only that make room by dropping what is oldest.
fn retry_timer(reader: &mut Reader) -> Result<(RetryTimer, u64), Reported> {
    let timers =
        [("auto", RetryTimer::Auto), ("schedules", RetryTimer::Schedules), ("levels", RetryTimer::Levels)];
    let timer = reader.value("retry_timer", choice(&timers));
    let (timer, max_bytes) = (timer?, reader.value("retries_max_bytes", size)?);
    if timer == RetryTimer::Schedules && max_bytes > 0 {
        let expected = "expected auto or levels beside retries_max_bytes: NATS drops the oldest of a full \
            stream that has schedules";
        return Err(reader.fault("retry_timer", expected));
    }
    Ok((timer, max_bytes))
}

fn dead_letters(reader: &mut Reader) -> Result<DeadLetters, Reported> {
    let enabled = reader.value("dead_letters", boolean);
    let max_age = reader.value("dead_letter_max_age", age_limit);
    let max_bytes = reader.value("dead_letter_max_bytes", size);
    Ok(DeadLetters { enabled: enabled?, max_age: max_age?, max_bytes: max_bytes? })
}

/// A number of bytes that holds something.
fn bytes(text: &str) -> Result<usize, String> {
    let usable = usize::try_from(size(text)?).ok().filter(|bytes| *bytes > 0);
    usable.ok_or_else(|| "expected at least one byte".to_owned())
}

fn callback(reader: &mut Reader) -> Result<Callback, Reported> {
    let timeout = reader.value("callback_timeout", positive);
    let max_body = reader.value("callback_max_body", bytes);
    let memory = reader.value("callback_memory", bytes);
    let attempts = reader.value("callback_attempts", count(1..=100));
    let allowed = reader.value("allowed_callback_urls", str::parse::<AllowedHosts>);
    let deny_private = reader.value("callback_deny_private", boolean);
    let signing_file = reader.optional("callback_signing_secret_file", file);
    let tls_insecure = reader.value("tls_insecure", boolean);
    Ok(Callback {
        timeout: timeout?,
        attempts: attempts?,
        max_body: max_body?,
        memory: memory?,
        allowed: allowed?,
        deny_private: deny_private?,
        signing_file: signing_file?,
        tls_insecure: tls_insecure?,
    })
}

fn log(reader: &mut Reader) -> Result<Log, Reported> {
    let encoding =
        reader.value("log_encoding", choice(&[("console", Encoding::Console), ("json", Encoding::Json)]));
    let debug = reader.value("debug", boolean);
    Ok(Log { encoding: encoding?, debug: debug? })
}

fn audit(reader: &mut Reader) -> Result<Audit, Reported> {
    let levels = [("off", Audited::Nothing), ("failures", Audited::Failures), ("all", Audited::All)];
    let level = reader.value("audit", choice(&levels));
    let max_age = reader.value("audit_max_age", age_limit);
    let max_bytes = reader.value("audit_max_bytes", size);
    Ok(Audit { level: level?, max_age: max_age?, max_bytes: max_bytes? })
}

/// How old what is in a stream may get; 0 is no limit. A server refuses a shorter one than this.
fn age_limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => at_least(Duration::from_millis(100), text),
    }
}
