//! The table of settings: name, default and meaning of each. `--help`, the flags and the names in the
//! environment are made from it, and each default is read from it, so none of them can be wrong.

use Kind::{Bool, Bytes, Count, Duration, File, Port, Secret, Text, Url};
use Preset::{Derived, Nothing, Value};

/// One setting, which a flag or a variable sets.
#[derive(Debug)]
pub struct Setting {
    /// Its name in snake case.
    pub name: &'static str,
    /// Names that it is known by elsewhere.
    pub aliases: &'static [&'static str],
    /// Its default.
    pub preset: Preset,
    /// Its meaning.
    pub help: &'static str,
    /// The part of the program that it belongs to.
    pub group: &'static str,
    /// The kind of its value.
    pub kind: Kind,
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A value, as one would type it.
    Value(&'static str),
    /// Something that follows from other settings, in words.
    Derived(&'static str),
    /// Not there.
    Nothing,
}

/// The kind of value that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word or several.
    Text,
    /// `true` or `false`; a flag without a value means `true`.
    Bool,
    /// A whole number.
    Count,
    /// A duration in Go's notation.
    Duration,
    /// A number of bytes.
    Bytes,
    /// A TCP port. The service links of Kubernetes put URLs in such variables, which are ignored.
    Port,
    /// The path of a file.
    File,
    /// One or more URLs.
    Url,
    /// A secret: no message quotes it.
    Secret,
}

impl Setting {
    /// Its name as a flag, without the dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its default in words.
    #[must_use]
    pub fn default_text(&self) -> &'static str {
        match self.preset {
            Value(text) | Derived(text) => text,
            Nothing => "none",
        }
    }

    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

/// Whether two names mean the same setting: case, underscores and dashes do not matter.
pub(super) fn key(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The setting that goes by this name in any spelling.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    let wanted = key(name);
    SETTINGS.iter().find(|setting| names(setting).any(|name| key(name) == wanted))
}

/// All names of a setting, its own first.
pub(super) fn names(setting: &Setting) -> impl Iterator<Item = &'static str> {
    std::iter::once(setting.name).chain(setting.aliases.iter().copied())
}

macro_rules! settings {
    ($($group:literal {
        $($name:ident: $kind:ident = $preset:expr, $help:literal $(, also $aliases:expr)?;)*
    })*) => {
        /// Every setting, in the order in which people read about them.
        pub(super) static SETTINGS: &[Setting] = &[$($(
            Setting {
                name: stringify!($name),
                aliases: &[],
                preset: $preset,
                help: $help,
                group: $group,
                kind: $kind,
            }
            $(.also($aliases))?,
        )*)*];
    };
}

settings! {
    "NATS" {
        nats_url: Url = Derived("nats://127.0.0.1:4222"), "One or more servers, comma separated; tls:// \
            works, and so do user:password@ and token@ before the host";
        nats_host: Text = Value("127.0.0.1"), "The server's host, if nats_url is not set";
        nats_port: Port = Value("4222"), "The server's port, if nats_url is not set";
        faas_nats_address: Text = Value("127.0.0.1"), "The server's host, if neither nats_url nor nats_host \
            or nats_port is set";
        faas_nats_port: Port = Value("4222"), "The server's port, if neither nats_url nor nats_host or \
            nats_port is set";
        nats_creds_file: File = Nothing, "Log in with this .creds file: a JWT and its seed";
        nats_nkey_file: File = Nothing, "Log in with the nkey seed in this file";
        nats_token_file: File = Nothing, "Log in with the token in this file";
        nats_user: Text = Nothing, "Log in as this user, with nats_password_file";
        nats_password_file: File = Nothing, "The file that holds the password of nats_user";
        nats_ca_file: File = Nothing, "Certificate authorities to trust in place of the system's, in PEM; \
            only TLS is spoken then";
        nats_cert_file: File = Nothing, "The client's certificate in PEM, with nats_key_file";
        nats_key_file: File = Nothing, "The key of nats_cert_file in PEM";
        nats_tls_first: Bool = Value("false"), "Begin TLS before the server's first word, as servers with \
            handshake_first want it";
        nats_js_domain: Text = Nothing, "The JetStream domain";
        nats_inbox_prefix: Text = Value("_INBOX"), "The prefix of reply subjects";
        nats_manage: Bool = Value("true"), "false: only bind, never create or update streams or consumers";
    }
    "Queue" {
        queue_name: Text = Derived("nats_stream, else faas-request"), "The subject that invocations arrive \
            on; comma separated: several queues",
            also &["nats_channel", "faas_nats_channel"];
        nats_stream: Text = Derived("the queue's name, dots as _"), "The queue's stream; several queues: one \
            each, comma separated, in their order";
        nats_filter_subject: Text = Derived("the queue's name"), "The subjects that the consumer takes \
            from the stream; several queues: one each, as for nats_stream";
        nats_durable: Text = Value("faas-workers"), "The queue's durable pull consumer";
        nats_deliver: Text = Nothing, "new or all: where a new durable starts on an existing stream that is \
            no work queue";
        nats_stream_replicas: Count = Value("1"), "Replicas of the streams that this program creates, 1 to 5";
        nats_stream_max_bytes: Bytes = Value("0"),
            "Size limit of the queue's stream when it is created; a publisher beyond it is \
                refused; 0: none";
    }
    "Targets" {
        input: Text = Value("openfaas"), "The form of the messages: openfaas, what its gateways queue; http, \
            any message, sent to target_url as it is; cloudevents, events, sent there in HTTP's binary mode. \
            One, or one for each queue, comma separated";
        target_url: Url = Nothing, "Where messages go that name no function; {1}, {2} and so on are the \
            tokens at the wildcards of nats_filter_subject. One, or one for each queue, comma separated";
        target_method: Text = Value("POST"), "The method of such calls; one, or one for each queue";
        target_token_file: File = Nothing, "The file of the token that such calls bear, read anew when it \
            changes; one, or one for each queue";
        target_headers: Secret = Nothing, "Headers of such calls in place of the message's: Name: value, a \
            line each; several queues: one block for all, or one for each with a line of one comma between";
    }
    "NATS Streaming" {
        stan_bridge: Bool = Derived("true if faas_nats_cluster_name is set, else false"),
            "Take messages from gateways that only speak the NATS Streaming protocol, and store them in the \
                queue";
        faas_nats_cluster_name: Text = Value("faas-cluster"), "The NATS Streaming cluster that such gateways \
            look for";
    }
    "Calls" {
        gateway_url: Url = Derived("http://127.0.0.1:8080"),
            "Where functions answer, at /function/NAME; http or https, a base path is kept";
        gateway_ca_file: File = Nothing, "Certificate authorities to trust for an https gateway, in place of \
            the system's, in PEM";
        faas_gateway_address: Text = Value("127.0.0.1"), "The gateway's host, if gateway_url is not set";
        faas_gateway_port: Port = Value("8080"), "The gateway's port, if gateway_url is not set";
        function_namespace: Text = Value("openfaas-fn"), "The namespace in metrics of functions that name \
            none",
            also &["default_function_name"];
        max_inflight: Count = Value("50"), "Calls at once in this process, 1 to 100000";
        max_inflight_bytes: Bytes = Derived("a sixth of the container's memory limit, else 256MiB"),
            "The most bytes of the messages of these calls together, and two of the largest at least; what \
                has no room waits at the broker";
        ack_wait: Duration = Value("60s"),
            "How soon another worker takes over after this one dies, at least 1s; a call may take longer";
        upstream_timeout: Duration = Value("1m"), "How long one call may take";
        function_lookup: Bool = Derived("true where basic_auth is true or the bridge is on"),
            "Ask the gateway for a function's retry annotations where a message carries none";
        function_lookup_ttl: Duration = Value("30s"), "How long such an answer is used before the gateway is \
            asked again";
        basic_auth: Bool = Value("false"), "Log in for that, with the files basic-auth-user and \
            basic-auth-password";
        secret_mount_path: File = Value("/run/secrets"), "The folder of those two files";
        confirm_acks: Bool = Value("false"), "Insist on the broker's confirmation that a completed call was \
            acknowledged, as long as the lease lasts";
    }
    "Ingress" {
        ingress_addr: Text = Nothing, "Where callers may enqueue by HTTP: POST /async-function/NAME, and \
            /queues/QUEUE/messages; without it nobody can";
        ingress_max_body: Bytes = Value("0"), "The most bytes of a body that comes in there; 0: what NATS \
            takes (max_payload)";
        ingress_max_delay: Duration = Value("720h"), "The longest X-Delay, or time until X-Not-Before";
        ingress_token_file: File = Nothing, "Callers have to show a token of this file, one a line, as \
            Authorization: Bearer";
    }
    "API" {
        api_addr: Text = Nothing, "Where operators' tools look at queues by HTTP, and change them with \
            api_token_file: /api/v1; without it nobody can";
        api_token_file: File = Nothing, "Operators have to show a token of this file, one a line, as \
            Authorization: Bearer; without it the API shows no bodies and no values of headers, and changes \
            nothing";
    }
    "Retries" {
        max_retry_attempts: Count = Value("10"), "How often a message is tried, the first time included; 1 \
            and 0: once";
        initial_retry_wait: Duration = Value("10s"), "The wait before the second attempt; 0s is allowed";
        max_retry_wait: Duration = Value("120s"), "No computed wait is longer";
        http_retry_codes: Text = Value("429,502,500,504,408"), "Statuses that are retried; ranges such as \
            500-504 work",
            also &["retry_http_codes"];
        backoff: Text = Value("exponential"),
            "exponential: each wait twice the one before; full: 0 to 100 % of it at random; equal: 50 to 100 \
                %";
        immediate_retries: Count = Value("0"), "Extra tries at once, in place, before each wait; they count \
            as attempts";
        max_retry_after: Duration = Value("1h"), "The longest Retry-After that is honoured";
        max_message_age: Duration = Value("0"), "An older invocation goes to the dead letters as expired; 0: \
            none is";
        retry_timer: Text = Value("auto"),
            "The timer of parked retries: schedules (of NATS, 2.12.9 and newer), levels (any \
                server), or auto: schedules from 2.14 on, else levels";
        retries_max_bytes: Bytes = Value("0"),
            "Size limit of the stream of retries when it is created; with one retries wait in levels, and \
                more of them wait for room; 0: none";
    }
    "Dead letters" {
        dead_letters: Bool = Value("true"), "false: drop messages instead of dead-lettering them, with a \
            warning and a count each";
        dead_letter_max_age: Duration = Value("336h"), "Age limit of the dead-letter stream when it is \
            created; 0: none";
        dead_letter_max_bytes: Bytes = Value("0"), "Size limit of the dead-letter stream when it is created; \
            0: none";
    }
    "Audit" {
        audit: Text = Value("off"), "Record the end of invocations in a stream: of all, of those that ended \
            without success (failures), or of none (off)";
        audit_max_age: Duration = Value("168h"), "Age limit of that stream when it is created; 0: none";
        audit_max_bytes: Bytes = Value("1GiB"), "Size limit of that stream when it is created; full, it \
            drops the oldest; 0: none";
    }
    "Callbacks" {
        callback_timeout: Duration = Value("30s"), "How long one POST to a callback URL may take";
        callback_attempts: Count = Value("5"), "How often a callback is tried, the first time included, 1 to \
            100";
        callback_max_body: Bytes = Value("10MiB"), "The most of a function's answer that is passed on";
        callback_memory: Bytes = Value("160MiB"), "The most of all answers that are in memory for callbacks \
            at once; an answer without room waits";
        allowed_callback_urls: Text = Value("*"),
            "Hosts that may be called back, comma separated: globs such as *.example.com, with a port or \
                without; none: no host";
        callback_deny_private: Bool = Value("false"), "Call back public addresses only: none of this \
            machine, its network or its cloud";
        callback_signing_secret_file: File = Nothing, "Sign callbacks (Standard Webhooks) with the secrets \
            in this file, one a line";
        tls_insecure: Bool = Value("false"), "Skip certificate checks for callbacks";
    }
    "Process" {
        shutdown_grace: Duration = Value("25s"), "How long SIGTERM waits for running calls";
        listen_addr: Text = Value("0.0.0.0:8081"), "Where /metrics, /healthz and /readyz answer; 0.0.0.0, \
            [::] and no address (:8081) mean all addresses, of IPv4 and of IPv6";
        log_encoding: Text = Value("console"), "console (text) or json (one object a line); RUST_LOG is \
            honoured too, as levels by module";
        debug: Bool = Value("false"), "Log at debug level";
    }
    "Tracing" {
        otel_exporter_otlp_endpoint: Url = Nothing,
            "Send traces by OTLP to the collector at this URL, such as http://collector:4318; /v1/traces is \
                put behind it";
        otel_exporter_otlp_traces_endpoint: Url = Nothing, "The same in place of it, with nothing put behind";
        otel_exporter_otlp_headers: Secret = Nothing, "Headers for the collector: name=value, comma \
            separated, values percent-encoded";
        otel_exporter_otlp_protocol: Text = Value("http/protobuf"), "How the collector is spoken to; there \
            is no other way";
        otel_service_name: Text = Derived("service.name of otel_resource_attributes, else \
            queue-worker"), "This program's name in traces";
        otel_resource_attributes: Text = Nothing, "More attributes of it there: name=value, comma \
            separated, values percent-encoded";
        otel_traces_sampler: Text = Value("parentbased_always_on"),
            "Which calls are traced: always_on, always_off or traceidratio; parentbased_ before it: the \
                caller's traceparent decides where there is one";
        otel_traces_sampler_arg: Text = Value("1"), "The share of calls that traceidratio traces, 0 to 1";
        otel_sdk_disabled: Bool = Value("false"), "true: trace nothing, whatever else is set";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_answer_to_one_name() {
        let mut seen = BTreeSet::new();
        for name in SETTINGS.iter().flat_map(names) {
            assert!(seen.insert(key(name)), "{name}");
        }
    }

    #[test]
    fn any_spelling_finds_a_setting() {
        for name in ["max_retry_attempts", "maxRetryAttempts", "MAX_RETRY_ATTEMPTS", "max-retry-attempts"] {
            assert_eq!(find(name).map(|setting| setting.name), Some("max_retry_attempts"), "{name}");
        }
        assert!(find("max_retry").is_none());
    }
}
