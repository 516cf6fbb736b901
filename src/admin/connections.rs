//! The connections to the pages: few, and none for long.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Request, Uri, uri::PathAndQuery},
};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::inbound::connections::{self, Busy, Limits, Peer};

/// Real clients are a few scrapers and probes.
const LIMITS: Limits = Limits {
    most: 32,
    patience: Duration::from_secs(10),
    age: Some(Duration::from_secs(60)),
    goodbye: Duration::from_millis(500),
    head: 16 << 10,
};

/// Serves the pages until `until` is cancelled, and then for no more than half a second, whatever the clients
/// do.
pub(super) async fn serve(listener: Arc<TcpListener>, pages: Router, until: CancellationToken) {
    let pages = TowerToHyperService::new(pages);
    // No connection is busy: the oldest makes room, whatever it asked for.
    let answer = move |request: Request<Incoming>, _: Busy, _: Peer| {
        let page = pages.call(plain(request));
        async move { page.await.unwrap_or_else(|never| match never {}) }
    };
    connections::serve(listener, LIMITS, answer, until).await;
}

/// The same request without empty path segments: `//healthz/` is `/healthz`. People write probes by hand.
fn plain<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    let path: String = uri
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| format!("/{segment}"))
        .collect();
    if path != uri.path() && uri.path().starts_with('/') {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = if path.is_empty() { "/" } else { &path };
        if let Ok(plain) = format!("{target}{query}").parse::<PathAndQuery>() {
            *request.uri_mut() = Uri::from(plain);
        }
    }
    request
}
