//! What values a setting may take, alone and beside others.

use std::path::Path;

use super::*;

#[test]
fn addresses_follow_from_the_first_way_that_is_set() {
    let servers = |words: &[&str]| config(words).nats.servers.join(" ");
    assert_eq!(
        servers(&["nats_url=nats://a, tls://b:1,c:2", "nats_host=x"]),
        "nats://a tls://b:1 nats://c:2"
    );
    assert_eq!(servers(&["nats_host=a", "faas_nats_address=b"]), "nats://a:4222");
    assert_eq!(servers(&["nats_port=1"]), "nats://127.0.0.1:1");
    assert_eq!(servers(&["faas_nats_port=1"]), "nats://127.0.0.1:1");
    assert_eq!(servers(&["nats_host=fd00::1", "nats_port=1"]), "nats://[fd00::1]:1");
    assert_eq!(servers(&["nats_url=nats://[::1]:4222"]), "nats://[::1]:4222");
    let gateway = |words: &[&str]| config(words).gateway_url.to_string();
    assert_eq!(gateway(&["gateway_url=https://g/base/", "faas_gateway_address=x"]), "https://g/base");
    assert_eq!(gateway(&["faas_gateway_address=g"]), "http://g:8080/");
    assert_eq!(gateway(&["faas_gateway_port=1"]), "http://127.0.0.1:1/");
    assert_eq!(gateway(&["faas_gateway_address=::1", "faas_gateway_port=1"]), "http://[::1]:1/");
    for text in ["http://a", "nats://", "nats://a/path", "nats://a?x", "nats://a:0", "nats://a,", "a b"] {
        let faults = faults(&[&format!("nats_url={text}")]);
        assert!(
            matches!(faults.as_slice(), [fault] if fault.contains("expected one or more URLs")),
            "{faults:?}"
        );
    }
}

#[test]
fn the_names_of_a_queue_follow_from_each_other() {
    let names = |words: &[&str]| {
        let one = |queue: &Queue| {
            [queue.name.clone(), queue.stream.clone(), queue.filter_subject.clone(), queue.names().dead]
                .join(" ")
        };
        config(words).queues.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(names(&["queue_name=team.jobs"]), "team.jobs team_jobs team.jobs team_jobs-dead");
    assert_eq!(names(&["nats_stream=jobs"]), "jobs jobs jobs jobs-dead");
    assert_eq!(names(&["nats_stream=OF_jobs", "queue_name=jobs"]), "jobs OF_jobs jobs jobs-dead");
    assert_eq!(
        names(&["nats_filter_subject=faas-request.>"]),
        "faas-request faas-request faas-request.> faas-request-dead"
    );
    for (stream, what) in [("team_jobs-dead", "dead letters"), ("team_jobs-retries", "retries")] {
        check_fault(
            &["queue_name=team.jobs", &format!("nats_stream={stream}")],
            &format!(
                "nats_stream={stream}: expected another name, this is the stream of the {what} of team.jobs"
            ),
        );
    }
    let [fault] = faults(&["nats_stream=a.b"]).try_into().unwrap();
    assert!(fault.starts_with("nats_stream=a.b: expected a name"), "{fault}");
    assert_eq!(config(&["nats_deliver=New"]).queues[0].deliver, Some(Deliver::New));
    assert_eq!(config(&["nats_deliver=all"]).queues[0].deliver, Some(Deliver::All));

    assert_eq!(names(&["queue_name=a, team.b"]), "a a a a-dead; team.b team_b team.b team_b-dead");
    assert_eq!(names(&["nats_stream=a,b"]), "a a a a-dead; b b b b-dead");
    assert_eq!(
        names(&["queue_name=a,b", "nats_stream=OF_a,OF_b", "nats_filter_subject=a.>,b.>"]),
        "a OF_a a.> a-dead; b OF_b b.> b-dead"
    );
    let shared = config(&["queue_name=a,b", "nats_durable=d", "nats_deliver=new"]).queues;
    assert!(shared.iter().all(|queue| (queue.durable.as_str(), queue.deliver) == ("d", Some(Deliver::New))));
}

#[test]
fn a_filter_beside_the_queues_subject_is_the_newer_layout() {
    for (filter, subject, carries_function) in [
        ("faas-request", "faas-request", false),
        ("*", "faas-request", false),
        (">", "faas-request", false),
        ("faas-request.>", "faas-request.>", true),
        ("faas-request.*.*", "faas-request.*.*", true),
        ("elsewhere", "elsewhere", false),
    ] {
        let queue = config(&[&format!("nats_filter_subject={filter}")]).queues.remove(0);
        assert_eq!(
            (queue.subject(), queue.subjects_carry_function()),
            (subject, carries_function),
            "{filter}"
        );
    }
}

#[test]
fn every_queue_has_what_is_set_for_it() {
    let expected = "expected one value for each queue (a, b), in that order";
    for words in
        ["nats_stream=s", "nats_stream=s,t,u", "nats_filter_subject=a.>", "nats_filter_subject=a,b,c"]
    {
        check_fault(&["queue_name=a,b", words], &format!("{words}: {expected}"));
    }
    check_fault(
        &["queue_name=a", "nats_stream=s,t"],
        "nats_stream=s,t: expected one value for each queue (a), in that order",
    );
    check_fault(
        &["queue_name=a,,b"],
        "queue_name=a,,b: expected a subject: words joined by dots, without spaces, * and >, and no $ in \
            front",
    );
}

#[test]
fn queues_whose_names_collide_are_refused() {
    let check = |words: &[&str], named: &str, what: &str| {
        let shown = words.iter().find(|word| word.starts_with(named)).unwrap();
        check_fault(words, &format!("{shown}: expected {what}"));
    };
    let apart = |rest: &str| format!("queues with streams of their own, but {rest}");
    check(&["queue_name=a,b,a"], "queue_name", "each queue once, but a stands there twice");
    check(&["queue_name=a.b,a_b"], "queue_name", &apart("a_b is the stream of a.b and the stream of a_b"));
    check(
        &["queue_name=a,a-retries"],
        "queue_name",
        &apart("a-retries is the stream of the retries of a and the stream of a-retries"),
    );
    check(
        &["queue_name=a-dead,a"],
        "queue_name",
        &apart("a-dead is the stream of a-dead and the stream of the dead letters of a"),
    );
    check(
        &["queue_name=a,b", "nats_stream=s,s"],
        "queue_name",
        &apart("s is the stream of a and the stream of b"),
    );
    check(
        &["nats_stream=a,b,b-dead"],
        "nats_stream",
        &apart("b-dead is the stream of the dead letters of b and the stream of b-dead"),
    );
}

#[test]
fn there_is_one_way_to_log_in() {
    let login = |words: &[&str]| config(words).nats.login;
    assert_eq!(login(&["nats_creds_file=/c"]), Login::Creds("/c".into()));
    assert_eq!(login(&["nats_nkey_file=/n"]), Login::Nkey("/n".into()));
    assert_eq!(login(&["NATS_TOKEN_FILE=/t"]), Login::Token("/t".into()));
    assert_eq!(
        login(&["nats_user=u", "nats_password_file=/p"]),
        Login::UserPassword("u".into(), "/p".into())
    );
    let cert = config(&["nats_cert_file=/c", "nats_key_file=/k", "nats_ca_file=/a"]).nats;
    assert_eq!(cert.client_cert, Some(("/c".into(), "/k".into())));
    assert_eq!(cert.ca_file.as_deref(), Some(Path::new("/a")));

    check_fault(&["nats_user=u"], "nats_user=u: expected nats_password_file beside it");
    check_fault(&["nats_password_file=/p"], "nats_password_file=/p: expected nats_user beside it");
    check_fault(&["nats_cert_file=/c"], "nats_cert_file=/c: expected nats_key_file beside it");
    check_fault(&["nats_key_file=/k"], "nats_key_file=/k: expected nats_cert_file beside it");
    check_fault(
        &["nats_creds_file=/c", "--nats-token-file=/t"],
        "nats_creds_file=/c: expected only one way to log in, but --nats-token-file=/t is set too",
    );
    check_fault(
        &["nats_nkey_file=/n", "nats_url=nats://u:secret@h"],
        "nats_nkey_file=/n: expected only one way to log in, but nats_url=nats://***@h is set too",
    );
}

#[test]
fn a_login_in_a_url_is_decoded_and_goes_to_all_servers() {
    let login = |urls: &str| config(&[&format!("nats_url={urls}")]).nats.login;
    let in_url = |user: &str, password: Option<&str>| {
        Login::InUrl(UrlLogin { user: user.into(), password: password.map(Into::into) })
    };
    assert_eq!(login("nats://u:p%40%2F@h"), in_url("u", Some("p@/")));
    assert_eq!(login("u:p@h:4222,tls://i,nats://u:p@k"), in_url("u", Some("p")));
    assert_eq!(login("nats://s3cr3t@h"), in_url("s3cr3t", None));
    assert_eq!(login("nats://h,i:4222"), Login::None);
    check_fault(&["nats_url=u:p@h,u:q@i"], "nats_url=***@i: expected the same login for all servers");
}

#[test]
fn what_is_shown_of_the_settings_holds_no_password() {
    let config = config(&["nats_url=nats://u:secret@h,tls://u:secret@i"]);
    assert_eq!(config.nats.servers, ["nats://h", "tls://i"]);
    assert!(!format!("{config:?}").contains("secret"), "{config:?}");
    for words in [
        ["nats_url=nats://u:secret@h/path"],
        ["gateway_url=http://u:secret@h"],
        ["-password=secret"],
        ["--nats://u:secret@h"],
    ] {
        assert!(!format!("{:?}", faults(&words)).contains("secret"), "{words:?}");
    }
    let apart = ["--password", "secret"].map(OsString::from);
    assert!(!format!("{:?}", load(apart, [])).contains("secret"));
}

#[test]
fn values_have_their_bounds() {
    assert_eq!(config(&["max_retry_attempts=0"]).retry.max_attempts, 1);
    assert_eq!(config(&["max_retry_attempts=1"]).retry.max_attempts, 1);
    assert_eq!(config(&["max_message_age=24h"]).retry.max_message_age, Some(Duration::from_secs(86_400)));
    assert_eq!(config(&["initial_retry_wait=0s"]).retry.backoff.initial, Duration::ZERO);
    assert_eq!(config(&["backoff=full"]).retry.backoff.jitter, Jitter::Full);
    assert_eq!(config(&["backoff=equal"]).retry.backoff.jitter, Jitter::Equal);
    assert_eq!(
        config(&["max_inflight=100000", "ack_wait=1s", "nats_stream_replicas=5"]).max_inflight,
        100_000
    );
    assert_eq!(config(&["retry_timer=schedules"]).retry_timer, RetryTimer::Schedules);
    assert_eq!(config(&["retry_timer=LEVELS"]).retry_timer, RetryTimer::Levels);
    assert_eq!(config(&["log_encoding=json"]).log.encoding, Encoding::Json);
    assert_eq!(config(&["dead_letter_max_age=0s"]).dead_letters.max_age, Duration::ZERO);
    assert_eq!(config(&["listen_addr=:9000"]).listen_addr, ([0, 0, 0, 0], 9000).into());
    assert_eq!(config(&["allowed_callback_urls=*.a, b:80"]).callback.allowed, "*.a,b:80".parse().unwrap());
    check_fault(&["callback_attempts=101"], "callback_attempts=101: expected a whole number from 1 to 100");
    check_fault(
        &["allowed_callback_urls=http://a"],
        "allowed_callback_urls=http://a: expected *, none, or hosts separated by commas, such as \
            *.example.com or hooks.internal:8443",
    );
    check_fault(&["max_inflight=0"], "max_inflight=0: expected a whole number from 1 to 100000");
    check_fault(&["MaxInflight=100001"], "MaxInflight=100001: expected a whole number from 1 to 100000");
    check_fault(&["ack_wait=999ms"], "ack_wait=999ms: expected a duration of at least 1s");
    check_fault(
        &["upstream_timeout=0"],
        "upstream_timeout=0: expected a duration of more than 0, such as 30s",
    );
    check_fault(
        &["--nats-stream-replicas=6"],
        "--nats-stream-replicas=6: expected a whole number from 1 to 5",
    );
    check_fault(
        &["faas_nats_cluster_name=a.b"],
        "faas_nats_cluster_name=a.b: expected one word without spaces, dots, * and >",
    );
    check_fault(&["retry_timer=wheel"], "retry_timer=wheel: expected auto or schedules or levels");
    check_fault(&["backoff=linear"], "backoff=linear: expected exponential or full or equal");
    check_fault(
        &["initial_retry_wait=30"],
        "initial_retry_wait=30: expected a duration with a unit, such as 30s",
    );
    check_fault(
        &["--initial-retry-wait=-5s"],
        "--initial-retry-wait=-5s: expected a duration that is not negative, such as 30s",
    );
}

#[test]
fn an_audit_is_bounded_as_it_is_asked_to_be() {
    for (word, level) in [("off", Audited::Nothing), ("failures", Audited::Failures), ("ALL", Audited::All)] {
        assert_eq!(config(&[&format!("audit={word}")]).audit.level, level);
    }
    let audit = config(&["audit=all", "audit_max_age=0", "audit_max_bytes=10MB"]).audit;
    assert_eq!((audit.max_age, audit.max_bytes), (Duration::ZERO, 10_000_000));
    check_fault(&["audit_max_age=1ms"], "audit_max_age=1ms: expected a duration of at least 100ms");
}

#[test]
#[cfg(feature = "otel")]
fn traces_go_where_they_are_sent_and_nowhere_else() {
    let endpoint = |words: &[&str]| config(words).tracing.map(|tracing| tracing.endpoint.to_string());
    assert_eq!(endpoint(&["OTEL_SERVICE_NAME=x", "OTEL_TRACES_SAMPLER=always_on"]), None);
    assert_eq!(
        endpoint(&["OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"]).as_deref(),
        Some("http://c:4318/v1/traces")
    );
    let both =
        ["OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://d/x"];
    assert_eq!(endpoint(&both).as_deref(), Some("https://d/x"));
    assert_eq!(endpoint(&[both[0], "OTEL_SDK_DISABLED=true"]), None);
    let sampler = |words: &[&str]| config(&[words, &both].concat()).tracing.unwrap().sampler;
    assert_eq!(sampler(&[]), Sampler { follows_parent: true, share: 1.0 });
    assert_eq!(sampler(&["OTEL_TRACES_SAMPLER_ARG=0.5"]), Sampler { follows_parent: true, share: 1.0 });
    let share = ["OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.5"];
    assert_eq!(sampler(&share), Sampler { follows_parent: false, share: 0.5 });
}

#[test]
#[cfg(not(feature = "otel"))]
fn who_asks_a_worker_for_traces_that_has_none_is_told() {
    let expected =
        "expected a program that was built with the feature otel, as images are: this one sends no traces";
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        let words = format!("{name}=http://c:4318");
        check_fault(&[&words], &format!("{words}: {expected}"));
        assert!(config(&[&words, "OTEL_SDK_DISABLED=true"]).tracing.is_none());
    }
}

#[test]
fn settings_of_tracing_that_cannot_be_used_are_named_without_secrets() {
    let url = "expected a URL such as http://collector:4318, without user, password, query and fragment";
    check_fault(
        &["OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317"],
        &format!("OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317: {url}"),
    );
    check_fault(
        &["OTEL_EXPORTER_OTLP_PROTOCOL=grpc"],
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: expected http/protobuf",
    );
    check_fault(
        &["OTEL_EXPORTER_OTLP_HEADERS=hidden"],
        "OTEL_EXPORTER_OTLP_HEADERS=***: expected name=value, comma separated, with values percent-encoded",
    );
    check_fault(
        &["OTEL_TRACES_SAMPLER_ARG=2"],
        "OTEL_TRACES_SAMPLER_ARG=2: expected a number from 0 to 1, such as 0.1",
    );
    check_fault(
        &["OTEL_TRACES_SAMPLER=xray"],
        "OTEL_TRACES_SAMPLER=xray: expected always_on or always_off or traceidratio or parentbased_always_on \
            or parentbased_always_off or parentbased_traceidratio",
    );
}
