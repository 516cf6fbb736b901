//! The callback: when an invocation ends, its answer is posted to the URL that the caller asked for.

use std::{sync::OnceLock, time::Duration};

use http::HeaderMap;
use reqwest::{Client, redirect};
use url::Url;

use crate::{
    config,
    decode::Invocation,
    invoke::{Answer, HOP_BY_HOP, set},
    metrics::Metrics,
    telemetry,
};

/// How an invocation ended, as its caller is told.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The invocation.
    pub invocation: &'a Invocation,
    /// Its call id.
    pub call_id: &'a str,
    /// The function's last answer, if there was one.
    pub answer: Option<&'a Answer>,
    /// The status: the function's, or one that says why there is none.
    pub status: u16,
    /// Retries made.
    pub retry: u32,
    /// Retries that were allowed.
    pub retry_max: u32,
}

/// Posts callbacks. The client is made when the first is due: most queues have none.
#[derive(Debug)]
pub struct Callbacks {
    settings: config::Callback,
    client: OnceLock<Option<Client>>,
    metrics: Metrics,
}

impl Callbacks {
    /// Callbacks under these settings.
    pub fn new(settings: config::Callback, metrics: Metrics) -> Self {
        Self { settings, client: OnceLock::new(), metrics }
    }

    /// How many bytes of the answer a callback of this invocation needs.
    pub fn wants(&self, invocation: &Invocation) -> usize {
        if invocation.callback_url().is_some() { self.settings.max_body } else { 0 }
    }

    /// Posts the ending to the invocation's callback URL, if it has one. One try: a failure is logged and counted.
    pub async fn post(&self, ending: Ending<'_>) {
        let (call_id, function) = (ending.call_id, ending.invocation.function.as_str());
        let url = match ending.invocation.callback_url() {
            None => return,
            Some(Ok(url)) => url,
            Some(Err(reason)) => {
                tracing::warn!(callId = call_id, function, reason, "the callback URL cannot be used");
                return self.metrics.callback("refused");
            }
        };
        match self.send(&url, ending).await {
            Ok(status) => {
                telemetry::posted_result(call_id, function, &telemetry::loggable(&url), status);
                self.metrics.callback(if (200..300).contains(&status) { "delivered" } else { "failed" });
            }
            Err(reason) => {
                tracing::warn!(callId = call_id, function, url = telemetry::loggable(&url), reason, "the callback was not answered");
                self.metrics.callback("failed");
            }
        }
    }

    async fn send(&self, url: &Url, ending: Ending<'_>) -> Result<u16, &'static str> {
        let client = self.client.get_or_init(|| self.build()).as_ref().ok_or("no HTTP client can be made")?;
        let body = ending.answer.map(|answer| answer.body.clone()).unwrap_or_default();
        let mut target = url.clone();
        let mut request = client.post(Url::clone(&target));
        if !url.username().is_empty() || url.password().is_some() {
            let _ = target.set_username("");
            let _ = target.set_password(None);
            let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            request = client.post(target).basic_auth(plain(url.username()), url.password().map(plain));
        }
        let sent = request.headers(headers(ending)).body(body).send().await.map_err(|error| reason(&error))?;
        Ok(sent.status().as_u16())
    }

    fn build(&self) -> Option<Client> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(self.settings.timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .tls_danger_accept_invalid_certs(self.settings.tls_insecure)
            .build();
        client.inspect_err(|error| tracing::error!(%error, "callbacks cannot be posted")).ok()
    }
}

fn headers(ending: Ending<'_>) -> HeaderMap {
    let mut headers = ending.answer.map(|answer| answer.headers.clone()).unwrap_or_default();
    for name in HOP_BY_HOP.iter().chain(&["content-length", "host"]) {
        headers.remove(*name);
    }
    set(&mut headers, "x-call-id", ending.call_id);
    set(&mut headers, "x-function-name", ending.invocation.function.as_str());
    set(&mut headers, "x-function-status", &ending.status.to_string());
    let took = ending.answer.map(|answer| answer.took).unwrap_or_default();
    set(&mut headers, "x-duration-seconds", &format!("{:.6}", took.as_secs_f64()));
    set(&mut headers, "x-retry", &ending.retry.to_string());
    set(&mut headers, "x-retry-max", &ending.retry_max.to_string());
    set(&mut headers, "user-agent", concat!("queue-worker/", env!("CARGO_PKG_VERSION")));
    if ending.answer.is_some_and(|answer| answer.truncated) {
        set(&mut headers, "x-body-truncated", "true");
    }
    headers
}

/// In a few words and without the URL.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "unreachable"
    } else {
        "broken connection"
    }
}
