//! Traces: what a collector hears of a call, from its caller's span to the callback, and what it costs when
//! it hears nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Answer, Collector, Gateway, Invocation, Nats, QUEUE, RETRIES, Span, Worker};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn caller(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name() == name).collect()
}

fn each(spans: &[&Span], attribute: &str) -> Vec<String> {
    spans.iter().map(|span| span.get(attribute)).collect()
}

/// That the second and all later deliveries were waited for since the one before.
fn check_waits(waits: &[&Span], deliveries: &[&Span], expected: &[u64]) {
    assert_eq!(waits.len(), deliveries.len());
    for (at, (wait, delivery)) in waits.iter().zip(deliveries).enumerate() {
        assert!(
            wait.began() <= wait.ended() && wait.ended() <= delivery.began(),
            "wait {at}: {wait:?} {delivery:?}"
        );
        if let Some(before) = at.checked_sub(1) {
            assert!(
                wait.began() >= deliveries[before].began(),
                "wait {at} began before the delivery that it follows"
            );
            let (took, expected) =
                (wait.ended().duration_since(wait.began()).unwrap(), Duration::from_millis(expected[before]));
            assert!(
                took.abs_diff(expected) < Duration::from_millis(10),
                "wait {at} took {took:?}, not {expected:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_call_is_one_trace_from_its_caller_to_the_callback() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth < 3 { 500 } else { 200 })).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth < 2 { 500 } else { 200 })).await;
    let collector = Collector::start().await;
    let settings = collector.of(Worker::of(&nats, &gateway)).set("initial_retry_wait", "100ms");
    let _worker =
        settings.set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test%20bench").start().await;
    let call = Invocation::of("f")
        .call_id("a")
        .header("Traceparent", &caller("01"))
        .header("tracestate", "x=1")
        .path("/p");
    nats.publish(
        &call
            .field("QueryString", "token=hidden".into())
            .callback(&format!("{}/back?token=hidden", receiver.url())),
    )
    .await;

    // Four deliveries: three of the call and one of the parked callback, each with its wait; and five POSTs.
    let spans = collector.await_spans(13).await;
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(spans.len(), 13, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace() == TRACE && span.span.trace_state == "x=1"));
    let (waits, deliveries) =
        (named(&spans, &format!("wait {QUEUE}")), named(&spans, &format!("process {QUEUE}")));
    for span in waits.iter().chain(&deliveries) {
        assert_eq!((span.parent().as_str(), span.get("faas.invoked_name").as_str()), (CALLER, "f"));
        assert_eq!(span.get("messaging.destination.name"), QUEUE);
    }
    check_waits(&waits, &deliveries, &[100, 200, 100]);
    assert_eq!(each(&deliveries, "queue_worker.fate"), ["parked", "parked", "completed", "delivered"]);
    assert_eq!(each(&deliveries, "queue_worker.call_id"), ["a"; 4]);
    assert_eq!(each(&deliveries, "queue_worker.attempt"), ["1", "2", "3", "2"]);
    assert_eq!(each(&deliveries, "queue_worker.kind"), ["", "", "", "callback"]);
    assert!(deliveries.iter().all(|span| span.error().is_none()));

    let (calls, posts) = (named(&spans, "POST /function/f"), named(&spans, "POST callback"));
    assert_eq!(each(&calls, "http.response.status_code"), ["500", "500", "200"]);
    assert_eq!(each(&calls, "queue_worker.attempt"), ["1", "2", "3"]);
    assert_eq!(each(&calls, "url.path"), ["/function/f/p"; 3]);
    assert_eq!(each(&calls, "server.port"), vec![gateway.address().port().to_string(); 3]);
    assert_eq!(calls[0].error(), Some("the function answered 500"));
    assert_eq!(calls[2].error(), None);
    assert_eq!(each(&posts, "http.response.status_code"), ["500", "200"]);
    let above: Vec<_> = calls.iter().chain(&posts).map(|post| post.parent()).collect();
    assert_eq!(above, [0, 1, 2, 2, 3].map(|delivery| deliveries[delivery].id()));

    // Whoever is called finds the span of the POST in its headers, once, and nobody else's.
    let heard: Vec<_> = gateway.calls().into_iter().chain(receiver.calls()).collect();
    for (call, post) in heard.iter().zip(calls.iter().chain(&posts)) {
        let told: Vec<_> = call
            .request
            .headers
            .iter()
            .filter(|(name, _)| name.to_lowercase().starts_with("trace"))
            .collect();
        let told: Vec<_> = told.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
        assert_eq!(
            told,
            [("traceparent".to_owned(), &*post.traceparent()), ("tracestate".to_owned(), "x=1")]
        );
    }
    assert_eq!(spans[0].of_resource("service.name"), "queue-worker");
    assert_eq!(spans[0].of_resource("deployment.environment"), "test bench");
}

#[tokio::test]
async fn a_call_whose_caller_is_not_traced_is_one_trace_all_the_same() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth < 2 { 500 } else { 200 })).await;
    let collector = Collector::start().await;
    let settings = collector.of(Worker::of(&nats, &gateway)).set("initial_retry_wait", "100ms");
    let mut first = settings.start().await;
    let mut watch = nats.watch_parked().await;
    nats.publish(&Invocation::of("f")).await;
    // Another worker makes the second attempt.
    watch.next().await;
    assert_eq!(first.drain().await, 0);
    let _second = settings.start().await;

    let spans = collector.await_spans(6).await;
    let root = &spans[0];
    assert_eq!((root.name(), root.parent().as_str()), (&*format!("wait {QUEUE}"), ""));
    assert!(spans.iter().all(|span| span.trace() == root.trace()), "{spans:#?}");
    let deliveries = named(&spans, &format!("process {QUEUE}"));
    assert_eq!(each(&deliveries, "queue_worker.fate"), ["parked", "completed"]);
    assert!(deliveries.iter().all(|span| span.parent() == root.id()));
    let calls = named(&spans, "POST /function/f");
    let heard: Vec<_> =
        gateway.calls().iter().map(|call| call.header("traceparent").unwrap().to_owned()).collect();
    assert_eq!(heard, calls.iter().map(|call| call.traceparent()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_whose_worker_dies_stays_in_its_trace() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| if call.nth < 2 { Answer::silence() } else { Answer::ok() }).await;
    let collector = Collector::start().await;
    let settings = collector.of(Worker::of(&nats, &gateway)).set("ack_wait", "1s");
    let mut first = settings.start().await;
    nats.publish(&Invocation::of("f").call_id("a")).await;
    gateway.await_calls(1).await;
    // The wait before the call that dies.
    collector.await_spans(1).await;
    first.kill().await;
    let _second = settings.start().await;

    let spans = collector.await_spans(5).await;
    assert!(spans.iter().all(|span| span.trace() == spans[0].trace()), "{spans:#?}");
    let deliveries = named(&spans, &format!("process {QUEUE}"));
    assert_eq!(each(&deliveries, "queue_worker.fate"), ["interrupted", "completed"]);
    assert_eq!((deliveries[0].error(), deliveries[1].error()), (Some("interrupted"), None));
}

#[tokio::test]
async fn the_last_span_of_a_dead_letter_says_why() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let collector = Collector::start().await;
    let _worker = collector.of(Worker::of(&nats, &gateway)).start().await;
    nats.publish(&Invocation::of("f").call_id("a").header("traceparent", &caller("01"))).await;
    let spans = collector.await_spans(3).await;
    let [delivery] = named(&spans, &format!("process {QUEUE}"))[..] else { panic!("{spans:#?}") };
    assert_eq!(
        (delivery.get("queue_worker.fate").as_str(), delivery.error()),
        ("dead_letter", Some("dead_letter"))
    );
    assert_eq!((delivery.get("error.type"), delivery.trace()), ("refused".to_owned(), TRACE.to_owned()));
    assert!(delivery.ended() >= spans.iter().map(Span::ended).max().unwrap());
}

#[tokio::test]
async fn a_state_of_the_callers_that_no_header_can_hold_keeps_nothing_from_its_end() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::status(400)).await;
    let receiver = Gateway::start(|call| Answer::status(if call.nth < 2 { 500 } else { 200 })).await;
    let collector = Collector::start().await;
    let worker = collector.of(Worker::of(&nats, &gateway)).set("initial_retry_wait", "10ms").start().await;
    for (n, state) in [
        "a=1,b=2\n",
        "a=1,b=\r\nNats-Rollup: all",
        "a=1,\u{85}=\u{2028}",
        &format!("a=1,{}", "b=1,".repeat(9_000)),
    ]
    .iter()
    .enumerate()
    {
        let call = Invocation::of("f")
            .call_id(&n.to_string())
            .header("traceparent", &caller("01"))
            .header("tracestate", state);
        nats.publish(&call.callback(&receiver.url())).await;
    }
    let posts = receiver.await_ended(8).await;
    nats.await_counts([0, 0, 4]).await;
    assert!(posts.iter().all(|call| {
        call.header("tracestate").is_some_and(|state| state.starts_with("a=1") && state.len() <= 512)
    }));
    assert_eq!(worker.log_with("Panic"), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_caller_does_not_trace_is_not_traced_and_the_function_is_told() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth < 2 { 500 } else { 200 })).await;
    let collector = Collector::start().await;
    let settings = collector.of(Worker::of(&nats, &gateway)).set("initial_retry_wait", "100ms");
    let mut worker = settings.start().await;
    let mut watch = nats.watch_parked().await;
    nats.publish(&Invocation::of("f").call_id("a").header("traceparent", &caller("00"))).await;
    assert_eq!(watch.next().await.header("Queue-Worker-Parked-At"), None);
    nats.await_counts([0, 0, 0]).await;
    assert_eq!(worker.drain().await, 0);
    assert_eq!(collector.http.count(), 0);
    for call in gateway.calls() {
        let told = call.header("traceparent").unwrap();
        assert!(
            told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && !told.contains(CALLER),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_sampler_that_asks_no_parent_decides_alone() {
    for (sampler, argument, flags, expected) in [("always_on", "1", "00", 3), ("traceidratio", "0", "01", 0)]
    {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let collector = Collector::start().await;
        let settings = collector.of(Worker::of(&nats, &gateway)).set("OTEL_TRACES_SAMPLER", sampler);
        let mut worker = settings.set("OTEL_TRACES_SAMPLER_ARG", argument).start().await;
        nats.publish(&Invocation::of("f").header("traceparent", &caller(flags))).await;
        nats.await_counts([0, 0, 0]).await;
        gateway.await_ended(1).await;
        assert_eq!(worker.drain().await, 0);
        assert_eq!(collector.spans().len(), expected, "{sampler}");
    }
}

#[tokio::test]
async fn calls_and_the_drain_go_on_without_a_collector() {
    for collector in [
        Collector::answering(|_| Answer::silence()).await,
        Collector::answering(|_| Answer::status(503)).await,
    ] {
        let nats = Nats::start().await;
        let gateway = Gateway::start(|_| Answer::ok()).await;
        let mut worker = collector.of(Worker::of(&nats, &gateway)).start().await;
        nats.publish_all((0..50).map(|n| Invocation::of("f").call_id(&n.to_string()))).await;
        gateway.await_ended(50).await;
        nats.await_counts([0, 0, 0]).await;
        // An export is under way, which would go on for ten seconds.
        collector.http.await_calls(1).await;
        let began = Instant::now();
        assert_eq!(worker.drain().await, 0);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(8), "the drain took {took:?}");
        worker.await_log(&["Traces lost"]).await;
    }
}

#[tokio::test]
async fn lost_traces_are_told_once_and_not_each_time() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|_| Answer::ok()).await;
    let collector = Collector::answering(|_| Answer::status(400)).await;
    let worker = collector.of(Worker::of(&nats, &gateway)).start().await;
    for n in 1..4 {
        nats.publish(&Invocation::of("f").call_id(&n.to_string())).await;
        collector.http.await_ended(n).await;
    }
    let line = worker.await_log(&["Traces lost", "400"]).await;
    assert_eq!(worker.log_with("Traces lost"), [line]);
}

#[tokio::test]
async fn neither_logs_nor_spans_hold_secrets() {
    let nats = Nats::start().await;
    let gateway =
        Gateway::start(|call| Answer::status(if call.function() == "f" { 200 } else { 400 }).body("hunter1"))
            .await;
    let receiver = Gateway::start(|_| Answer::ok()).await;
    let collector =
        Collector::answering(|call| Answer::status(if call.nth < 2 { 401 } else { 200 }).body("hunter2"))
            .await;
    let settings = collector.of(Worker::of(&nats, &gateway)).set("debug", true);
    let mut worker =
        settings.set("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter3,x-b=c").start().await;
    for function in ["f", "g"] {
        let secret = Invocation::of(function).header("Authorization", "Bearer hunter4").body("hunter5");
        let secret = secret.field("QueryString", "token=hunter6".into());
        nats.publish(
            &secret.callback(&format!("http://user:hunter7@{}/back?token=hunter8", receiver.address())),
        )
        .await;
        let calls = collector.http.await_calls(if function == "f" { 1 } else { 2 }).await;
        assert!(
            calls.iter().all(|call| call.header("authorization") == Some("Bearer hunter3")
                && call.header("x-b") == Some("c"))
        );
    }
    receiver.await_ended(2).await;
    nats.await_counts([0, 0, 1]).await;
    assert_eq!(worker.drain().await, 0);
    let leaks = worker.log_with("hunter");
    assert!(leaks.is_empty(), "secrets in the log: {leaks:?}");
    let spans = format!("{:?}", collector.spans());
    assert!(spans.contains("POST callback") && !spans.contains("hunter"), "{spans}");
}

#[tokio::test]
async fn nobody_who_did_not_ask_is_traced() {
    let nats = Nats::start().await;
    let gateway = Gateway::start(|call| Answer::status(if call.nth < 2 { 500 } else { 200 })).await;
    let collector = Collector::start().await;
    let settings = Worker::of(&nats, &gateway).set("initial_retry_wait", "10ms");
    let disabled = collector.of(settings.clone()).set("OTEL_SDK_DISABLED", true);
    for (id, settings) in [("a", settings.set("OTEL_SERVICE_NAME", "x")), ("b", disabled)] {
        let mut worker = settings.start().await;
        let mut watch = nats.watch_parked().await;
        let parents = ["00-A", &caller("01")];
        let call = Invocation::of("f")
            .call_id(id)
            .header("Traceparent", parents[0])
            .header("Traceparent", parents[1]);
        nats.publish(&call.header("tracestate", " ,odd")).await;
        assert_eq!(watch.next().await.header("Queue-Worker-Parked-At"), None);
        nats.await_counts([0, 0, 0]).await;
        for call in gateway.calls_of(id) {
            let heard = call.request.headers.iter().filter(|(name, _)| name.to_lowercase() == "traceparent");
            assert!(heard.map(|(_, value)| value.as_str()).eq(parents));
            assert_eq!(call.header("tracestate"), Some(",odd"));
        }
        assert_eq!(worker.drain().await, 0);
    }
    assert_eq!((collector.http.count(), nats.count(RETRIES).await), (0, 0));
}
