//! The routes. This table dispatches, and the API's document is made of it.

use std::sync::Arc;

use axum::http::StatusCode;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;

use super::{
    Answer, audit, calls, changes, dead_letters, openapi, operations, pauses, policy,
    problem::Problem,
    queues,
    request::Asked,
    retries,
    values::{
        Kind::{
            Callee, Cause, Flag, Function, Moment, Number, Object, Outcome, Sequences, Status, Text, Words,
        },
        Param, Values,
    },
};
use crate::{config::Config, message::operation::MOST_CANARIES, operate::desk::Desk};

/// What stands before each path.
pub(super) const BASE: &str = "/api/v1";

/// A route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// Its name in programs that are made from the document.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// The parameters of its query.
    pub(super) query: &'static [&'static [Param]],
    /// The fields of its body, if it has one.
    pub(super) body: Option<&'static [Param]>,
    /// The statuses and schemas of its answers.
    pub(super) answers: &'static [(u16, &'static str)],
    pub(super) act: Act,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// With the broker.
    Desk(fn(Desk, Asked) -> Doing),
    /// Without it, in no time that counts.
    Alone(fn(Arc<Config>, Asked) -> Doing),
}

type Doing = BoxFuture<'static, Result<Answer, Problem>>;

impl Route {
    pub(super) fn params(&self) -> impl Iterator<Item = &'static Param> + Clone {
        self.query.iter().flat_map(|some| some.iter())
    }
}

macro_rules! body {
    () => {
        None
    };
    ($body:ident) => {
        Some($body)
    };
}

macro_rules! act {
    ($act:path) => {
        Act::Desk(|desk, asked| Box::pin($act(desk, asked)))
    };
    ($act:path, $broker:ident) => {
        Act::Alone(|config, asked| Box::pin($act(config, asked)))
    };
}

macro_rules! routes {
    ($($method:ident $path:literal $name:ident ($($query:expr),*) $(body $body:ident)?
        $(without $broker:ident)?
        => $($status:literal $schema:literal)or+,
        $act:path, $about:literal;)*) => {
        pub(super) static ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            name: stringify!($name),
            about: $about,
            query: &[$($query),*],
            body: body!($($body)?),
            answers: &[$(($status, $schema)),+],
            act: act!($act $(, $broker)?),
        }),*];
    };
}

/// The parameters of paths.
pub(super) const PATH: &[Param] = &[
    Param { name: "queue", kind: Text, about: "A queue that this worker serves" },
    Param { name: "sequence", kind: Number(1, u64::MAX), about: "A dead letter, by its number in the list" },
    Param { name: "operation", kind: Text, about: "An operation, by its id" },
    Param { name: "callId", kind: Text, about: "A call, by what X-Call-Id said to its caller" },
    Param { name: "function", kind: Function, about: "A function, such as f or f.openfaas-fn" },
];

/// Which letters, or retries, are meant: those that fit all that is said.
const FILTER: &[Param] = &[
    Param { name: "function", kind: Function, about: "Those of this function" },
    Param { name: "cause", kind: Cause, about: "Those of this cause" },
    Param { name: "status", kind: Status, about: "Those whose last attempt came out so" },
    Param { name: "error", kind: Text, about: "Those with this text in their last error, in any case" },
    Param { name: "call_id", kind: Text, about: "Those of this call" },
    Param { name: "since", kind: Moment, about: "Those since: an age such as 1h, or a time in RFC 3339" },
    Param { name: "before", kind: Moment, about: "Those before that: an age, or a time in RFC 3339" },
];
const LIST: &[Param] = &[
    Param { name: "limit", kind: Number(1, 1_000), about: "So many at most; 100 unless given" },
    Param {
        name: "cursor",
        kind: Text,
        about: "Where the list goes on: next of the answer before, to the same request",
    },
];
const GROUP: &[Param] = &[Param {
    name: "group",
    kind: Flag,
    about: "Sum them up by function, cause, status and error: groups in the place of items, of as many \
        letters as can be read in some seconds",
}];
const REVEAL: &[Param] =
    &[Param { name: "reveal", kind: Flag, about: "Show secrets, too: takes api_token_file" }];
const SCAN: &[Param] = &[Param {
    name: "scan",
    kind: Flag,
    about: "Look at every message that waits, is parked or dead: sees calls that no worker has seen",
}];
const RECORDS: &[Param] = &[
    Param { name: "call_id", kind: Text, about: "Those of this call; found by an index" },
    Param { name: "function", kind: Function, about: "Those of this function" },
    Param { name: "outcome", kind: Outcome, about: "Those of calls that ended so: completed, or a cause" },
    Param {
        name: "action",
        kind: Text,
        about: "Those of what operators did: a word such as redrive, or any",
    },
    Param { name: "by", kind: Text, about: "Those of what somebody did whose name has this text in it" },
    Param { name: "since", kind: Moment, about: "Those since: an age such as 1h, or a time in RFC 3339" },
    Param { name: "before", kind: Moment, about: "Those before that: an age, or a time in RFC 3339" },
];

const REASON: &[Param] = &[Param { name: "reason", kind: Words, about: "Why, for the record" }];
const PAUSE: &[Param] = REASON;
/// The same as a filter's, in a body.
const FIELDS: &[Param] = &[
    Param { name: "function", kind: Function, about: "Those of this function" },
    Param { name: "cause", kind: Cause, about: "Those of this cause" },
    Param { name: "status", kind: Status, about: "Those whose last attempt came out so" },
    Param { name: "error", kind: Text, about: "Those with this text in their last error, in any case" },
    Param { name: "callId", kind: Text, about: "Those of this call" },
    Param { name: "since", kind: Moment, about: "Those since: an age such as 1h, or a time in RFC 3339" },
    Param { name: "before", kind: Moment, about: "Those before that: an age, or a time in RFC 3339" },
];
macro_rules! chosen {
    ($($more:expr),*) => {
        &[
            Param { name: "sequences", kind: Sequences, about: "These, by their numbers in the list" },
            Param { name: "filter", kind: Object(FIELDS), about: "Those that fit all that is said" },
            Param { name: "all", kind: Flag, about: "All of them" },
            Param { name: "reason", kind: Words, about: "Why, for the record" },
            $($more),*
        ]
    };
}
const DRY: Param = Param { name: "dryRun", kind: Flag, about: "Only say how many are meant" };
const CHANGE: &[Param] = chosen!(DRY);
const RUN_NOW: &[Param] = chosen!(
    Param { name: "limit", kind: Number(1, 1_000), about: "So many at most; 100 unless given" },
    Param {
        name: "cursor",
        kind: Text,
        about: "Where it goes on: next of the answer before, to the same request"
    }
);
const REDRIVE: &[Param] = chosen!(
    DRY,
    Param { name: "rate", kind: Number(1, LARGEST), about: "Send this many a second at most" },
    Param { name: "to", kind: Callee, about: "Call this function instead" },
    Param {
        name: "canary",
        kind: Number(1, MOST_CANARIES as u64),
        about: "Send this many first, wait for their ends, and go on only if enough succeeded",
    },
    Param { name: "require", kind: Number(0, 100), about: "So many of a hundred of these; 100 unless given" }
);
/// The largest rate.
const LARGEST: u64 = u32::MAX as u64;

routes! {
    GET "/queues" listQueues () => 200 "Queues", queues::list,
        "Says of each queue what waits, runs, is parked, held and dead, and what is paused";
    GET "/queues/{queue}" getQueue () => 200 "Queue", queues::show, "The same of one queue";
    GET "/queues/{queue}/dead-letters" listDeadLetters (FILTER, GROUP, LIST) => 200 "DeadLetters",
        dead_letters::list, "Lists dead letters, the oldest first";
    GET "/queues/{queue}/dead-letters/{sequence}" getDeadLetter (REVEAL) => 200 "WholeDeadLetter",
        dead_letters::show, "Shows a dead letter: its story, its attempts, its headers and its body";
    GET "/queues/{queue}/retries" listRetries (FILTER, LIST) => 200 "Retries", retries::list,
        "Lists retries that wait, the oldest first: parked, due, or held by a pause";
    GET "/operations" listOperations () => 200 "Operations", operations::list,
        "Lists redrives, discards and cancels, the oldest first";
    GET "/operations/{operation}" getOperation () => 200 "Operation", operations::show,
        "Shows an operation: what was asked for, and how far it is";
    GET "/calls/{callId}" getCall (SCAN) => 200 "Call", calls::show, "Says where a call is";
    GET "/policy" getPolicy () without NATS => 200 "Policy", policy::show,
        "Says when the attempts of a call would be that always fails";
    GET "/policy/{function}" getFunctionPolicy () without NATS => 200 "Policy", policy::show,
        "The same for a function, whose annotations the gateway is asked for with function_lookup=true";
    GET "/audit" listRecords (RECORDS, LIST) => 200 "Records", audit::list,
        "Lists what became of calls, and what operators did, the oldest first, each queue's in turn";
    POST "/queues/{queue}/redrives" redrive () body REDRIVE => 202 "Operation" or 200 "Counts",
        changes::redrive, "Sends dead letters round again: makes an operation, which a worker carries out";
    POST "/queues/{queue}/discards" discard () body CHANGE => 202 "Operation" or 200 "Counts",
        changes::discard, "Deletes dead letters for good: makes an operation, which a worker carries out";
    POST "/queues/{queue}/retries/run-now" runRetriesNow () body RUN_NOW => 200 "Moved", retries::run_now,
        "Calls parked retries now, before their time";
    POST "/queues/{queue}/retries/cancel" cancelRetries () body CHANGE => 202 "Operation" or 200 "Counts",
        changes::cancel,
        "Ends parked calls without calling them: makes an operation, which a worker carries out";
    PUT "/queues/{queue}/pause" pauseQueue () body PAUSE => 200 "Pauses", pauses::pause,
        "Lets no new call begin, on any worker, until it is resumed; running calls end";
    DELETE "/queues/{queue}/pause" resumeQueue () => 200 "Pauses", pauses::resume,
        "Ends the pause of a queue";
    PUT "/queues/{queue}/functions/{function}/pause" pauseFunction () body PAUSE => 200 "Pauses",
        pauses::pause, "Lets no new call of a function begin until it is resumed";
    DELETE "/queues/{queue}/functions/{function}/pause" resumeFunction () => 200 "Pauses", pauses::resume,
        "Ends the pause of a function";
    POST "/operations/{operation}/abort" abortOperation () => 200 "Operation", operations::abort,
        "Ends an operation: what is not done yet stays as it is";
    POST "/operations/{operation}/resume" resumeOperation () => 200 "Operation", operations::resume,
        "Goes on with one that was stopped or aborted";
    DELETE "/calls/{callId}" cancelCall (REASON) => 200 "Cancelled" or 202 "Cancelled", calls::end,
        "Ends a call that waits, is parked or runs: 202 where its end is still to come";
    GET "/openapi.json" getDocument () without NATS => 200 "Document", openapi::show, "This document";
}

/// The route of a request, and the parameters of its path.
///
/// # Errors
/// Where there is none.
pub(super) fn find(method: &str, path: &str) -> Result<(&'static Route, Values), Problem> {
    let inside = path.strip_prefix(BASE).ok_or_else(nowhere)?;
    let mut allow = Vec::new();
    for route in ROUTES {
        let Some(found) = params(route.path, inside) else { continue };
        if route.method != method {
            allow.push(route.method);
            if route.method == "GET" {
                allow.push("HEAD");
            }
            continue;
        }
        let (mut values, mut faults) = (Values::default(), Vec::new());
        for (name, text) in found {
            let param = PATH.iter().find(|param| param.name == name).ok_or_else(nowhere)?;
            faults.extend(values.add(param, &text).err());
        }
        return if faults.is_empty() { Ok((route, values)) } else { Err(Problem::faulty(faults)) };
    }
    if allow.is_empty() { Err(nowhere()) } else { Err(Problem::method(allow.join(", "))) }
}

fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no such path; {BASE}/openapi.json lists them"))
}

/// The parameters of a path that is of this form.
fn params(form: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut parts, mut params) = (path.split('/'), Vec::new());
    for wanted in form.split('/') {
        let part = parts.next()?;
        match wanted.strip_prefix('{').and_then(|wanted| wanted.strip_suffix('}')) {
            None if part == wanted => {}
            Some(name) if !part.is_empty() => {
                params.push((name, percent_decode_str(part).decode_utf8().ok()?.into_owned()));
            }
            _ => return None,
        }
    }
    parts.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The route of a request and the parameters of its path.
    fn leads(method: &str, path: &str, name: &str, params: &[(&str, &str)]) {
        let mut expected = Values::default();
        for (name, text) in params {
            let param = PATH.iter().find(|param| param.name == *name).unwrap();
            expected.add(param, text).unwrap();
        }
        let (route, values) = find(method, path).unwrap();
        assert_eq!((route.name, values), (name, expected), "{method} {path}");
    }

    #[test]
    fn each_path_leads_to_its_route() {
        leads("GET", "/api/v1/queues", "listQueues", &[]);
        leads("GET", "/api/v1/queues/a%2Fb", "getQueue", &[("queue", "a/b")]);
        let letter = "/api/v1/queues/q/dead-letters/7";
        leads("GET", letter, "getDeadLetter", &[("queue", "q"), ("sequence", "7")]);
        leads("GET", "/api/v1/calls/%C3%BC", "getCall", &[("callId", "ü")]);
    }

    #[test]
    fn what_is_no_route_leads_nowhere() {
        for (method, path, status) in [
            ("GET", "/", 404),
            ("GET", "/api/v1", 404),
            ("GET", "/api/v1/", 404),
            ("GET", "/api/v2/queues", 404),
            ("GET", "/api/v1/queues/", 404),
            ("GET", "/api/v1//queues", 404),
            ("GET", "/api/v1/calls/%FF", 404),
            ("GET", "/api/v1/queues/q/dead-letters/0", 400),
            ("GET", "/api/v1/queues/q/dead-letters/x", 400),
            ("POST", "/api/v1/queues", 405),
        ] {
            assert_eq!(find(method, path).unwrap_err().status.as_u16(), status, "{method} {path}");
        }
    }

    #[test]
    fn no_two_routes_are_one() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            assert!(seen.insert((route.method, route.path)), "{} {}", route.method, route.path);
            assert!(seen.insert(("", route.name)), "{}", route.name);
        }
    }
}
