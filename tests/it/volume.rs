//! A long backlog, in bounded memory.

use crate::support::{Answer, Gateway, Invocation, Nats, Worker};

const BACKLOG: usize = 20_000;

#[tokio::test]
async fn a_backlog_of_twenty_thousand_is_called_once_each_in_bounded_memory() {
    let nats = Nats::start().await;
    nats.make_queue().await;
    let name = |n: usize| format!("call-{n}");
    nats.publish_all((0..BACKLOG).map(|n| Invocation::of("f").call_id(&name(n)).body(vec![b'x'; 1000])))
        .await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let worker = Worker::of(&nats, &gateway).start().await;
    let idle = worker.rss();
    gateway.await_calls(BACKLOG).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(gateway.count(), BACKLOG);
    assert!(gateway.calls().iter().all(|call| call.nth == 1), "some call was made twice");
    assert!(gateway.most_at_once() <= 50);
    // The backlog alone has twenty-five megabytes: a worker that hoards it shows.
    let grown = worker.rss().saturating_sub(idle);
    assert!(grown < 20_000_000, "the worker grew by {grown} bytes");
}
