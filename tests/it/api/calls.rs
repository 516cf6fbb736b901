//! Calls that no index knows, by the API.

use serde_json::json;

use super::answer;
use crate::support::{Door, Gateway, Invocation, Nats, Scratch, Worker};

#[tokio::test]
async fn messages_are_looked_at_for_one_request_at_a_time() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(answer).await;
    let scratch = Scratch::new();
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "1h");
    let settings = settings.set("api_token_file", scratch.write("tokens", "t").display());
    let (door, settings) = Door::to_api(settings);
    let _worker = settings.start().await;
    nats.publish(&Invocation::of("slow").call_id("parked")).await;
    nats.await_counts([0, 1, 0]).await;
    let ask = async |method: &str, target: &str| {
        door.ask(method, &format!("/api/v1/calls/{target}"), &[("Authorization", "Bearer t")], b"").await
    };
    for target in ["parked", "parked?scan=true"] {
        assert_eq!(ask("GET", target).await.json()["state"], "parked", "{target}");
    }
    let unknown = ask("GET", "nobody").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["detail"].as_str().unwrap().contains("scan=true"), "{}", unknown.json());
    let (one, other) = tokio::join!(ask("GET", "nobody"), ask("GET", "nobody?scan=true"));
    let (first, second) = if one.status == 404 { (one, other) } else { (other, one) };
    assert_eq!((first.status, second.status, second.header("retry-after")), (404, 503, Some("1")));
    // A mark needs no turn; a call that is parked ends at once if there is one.
    let (scan, marked) = tokio::join!(ask("GET", "nobody?scan=true"), ask("DELETE", "someone"));
    assert_eq!((scan.status, marked.status, &marked.json()["state"]), (404, 202, &json!("cancelling")));
    let ended = ask("DELETE", "parked").await;
    assert_eq!((ended.status, &ended.json()["state"]), (200, &json!("cancelled")), "{}", ended.json());
    assert_eq!(ask("DELETE", "parked").await.status, 409);
}
