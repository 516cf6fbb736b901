//! The bare loop: pull, decode, POST, acknowledge, in the ways that cost least, and nothing else. No call is
//! made again, none is given up, nothing is logged or counted, and an error is its end.

use std::{collections::HashMap, env, fmt, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use async_nats::jetstream::{self, Message, consumer::PullConsumer};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, header::HeaderName, http::HeaderValue};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use tokio::sync::Semaphore;

/// Decoding borrows: a message of this bench has nothing escaped in it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Invocation<'a> {
    #[serde(deserialize_with = "headers")]
    header: HeaderMap,
    function: &'a str,
    body: &'a str,
}

struct Loop {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: String,
    confirmed: bool,
}

pub async fn main() -> Result<()> {
    let told: HashMap<_, _> = env::vars().collect();
    let told = |name: &str| told.get(name).with_context(|| format!("{name} is not set"));
    let concurrency = told("BENCH_CONCURRENCY")?.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let bare = Arc::new(Loop {
        client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(concurrency).build(connector),
        gateway: told("BENCH_GATEWAY_URL")?.clone(),
        confirmed: told("BENCH_ACKS")? == "confirmed",
    });
    let js = jetstream::new(async_nats::connect(told("BENCH_NATS_URL")?).await?);
    let consumer: PullConsumer =
        js.get_consumer_from_stream(told("BENCH_DURABLE")?, told("BENCH_STREAM")?).await?;
    let mut messages = consumer.stream().max_messages_per_batch(concurrency).messages().await?;
    let permits = Arc::new(Semaphore::new(concurrency));
    while let Some(message) = messages.next().await {
        let (bare, message) = (Arc::clone(&bare), message?);
        let permit = Arc::clone(&permits).acquire_owned().await?;
        tokio::spawn(async move {
            if let Err(error) = bare.carry(message).await {
                eprintln!("{error:#}");
                std::process::exit(1);
            }
            drop(permit);
        });
    }
    Ok(())
}

impl Loop {
    async fn carry(&self, message: Message) -> Result<()> {
        let (message, acker) = message.split();
        let request = {
            let invocation: Invocation = serde_json::from_slice(&message.payload)?;
            let body = BASE64_STANDARD.decode(invocation.body)?;
            let uri = format!("{}/function/{}", self.gateway, invocation.function);
            let mut request = Request::post(uri).body(Full::from(body))?;
            *request.headers_mut() = invocation.header;
            request
        };
        // A payload is a part of what was read at once from the connection, and keeps all of that.
        drop(message);
        let response = self.client.request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        response.into_body().collect().await?;
        let acknowledged = if self.confirmed { acker.double_ack().await } else { acker.ack().await };
        acknowledged.map_err(|error| anyhow!(error))
    }
}

/// Straight into the map that the request needs.
fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
    struct Headers;
    impl<'de> Visitor<'de> for Headers {
        type Value = HeaderMap;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("headers with one value each")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderMap, A::Error> {
            let mut headers = HeaderMap::with_capacity(map.size_hint().unwrap_or(16));
            while let Some((name, [value])) = map.next_entry::<&str, [&str; 1]>()? {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(A::Error::custom)?;
                headers.append(name, HeaderValue::from_str(value).map_err(A::Error::custom)?);
            }
            Ok(headers)
        }
    }
    deserializer.deserialize_map(Headers)
}
