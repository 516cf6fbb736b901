//! What answers look like, for the API's document. Pure.

use serde_json::{Map, Value, json};

/// The schemas: a line for each property, with its type and what it says. `?` behind a type: it may be null;
/// `~` behind a name: it may be absent; `[]` before a type: a list. `as` another: its lines.
const SCHEMAS: &[(&str, &str)] = &[
    (
        "Problem",
        "type string: about:blank
        title string: the status in words
        status integer: the status
        detail string: what went wrong
        errors~ []Fault: the parameters or fields that are wrong",
    ),
    (
        "Fault",
        "field string: its name
        value string: what it was
        expected string: what it may be",
    ),
    ("Queues", "queues []Queue: all that were served yet"),
    (
        "Queue",
        "queue string: its name
        stream string: its stream
        paused boolean: whether all of it is paused
        pause Pause?: who paused it
        pausedFunctions []Pause: its functions that are paused
        pending integer: messages that no worker has yet
        oldestPendingSeconds integer?: how long the first of them has been there
        running integer: messages that workers have
        due integer: retries that wait for a worker
        parked integer: retries that wait for their time
        held integer: messages that wait for the end of their function's pause
        deadLetters integer: dead letters",
    ),
    (
        "Pause",
        "since time?: since when
        by string: by whom
        reason string?: why
        function~ string: the function, where it is one",
    ),
    (
        "DeadLetters",
        "items~ []DeadLetter: the letters
        groups~ []Group: their sums, with group=true
        more boolean: whether there may be more
        next string?: the cursor of the next part",
    ),
    (
        "DeadLetter",
        "sequence integer: its number
        queue string: its queue
        function string?: the function
        callId string?: the call's id
        cause string?: why it was given up
        attempts integer: how many attempts were made
        lastStatus Status?: how the last one came out
        lastError string?: what was wrong with it
        failedAt time: when it died
        firstSeen time: when it arrived
        originalId string: stream and id of the invocation
        bytes integer: the size of its payload
        redrives integer: how often it was sent round again",
    ),
    (
        "Group",
        "function string?: the function
        cause string?: why they were given up
        lastStatus Status?: how their last attempts came out
        error string?: their last error, with figures and names left out
        count integer: how many they are
        first time: when the first one died
        last time: when the last one died",
    ),
    (
        "WholeDeadLetter",
        "as DeadLetter
        headers Headers: the call's headers, or the callback's; *** in the place of secrets
        history []Attempt: its last attempts
        body string?: the body
        bodyEncoding string?: text or base64; null where the body is withheld
        path string?: the path behind the function's name
        query string?: the query
        callbackUrl string?: where the answer was to go
        flaw string?: why no call can be made of it
        letterHeaders Headers: the letter's own headers in NATS",
    ),
    (
        "Attempt",
        "n integer: its number, from 1
        status Status: how it came out
        milliseconds integer: how long it took
        worker string: who made it
        at time?: when it was begun",
    ),
    (
        "Retries",
        "items []Retry: the retries
        more boolean: whether there may be more
        next string?: the cursor of the next part",
    ),
    (
        "Retry",
        "sequence integer: its number
        queue string: its queue
        function string?: the function
        callId string?: the call's id
        state string: parked, due or held
        due time?: when it is due
        attempts integer: how many attempts were made
        lastStatus Status?: how the last one came out
        lastError string?: what was wrong with it
        firstSeen time: when it arrived
        originalId string: stream and id of the invocation
        bytes integer: the size of its payload
        kind string: call or callback",
    ),
    (
        "Operations",
        "items []Operation: the operations
        more boolean: false",
    ),
    (
        "Operation",
        "operation string?: its id
        state string: waiting, running, aborting, stopped, aborted or done
        matched integer: how many letters were meant when it was made
        redriven~ integer: how many were sent round again
        discarded~ integer: how many were deleted
        cancelled~ integer: how many were cancelled
        skipped integer: how many are left alone
        failed integer: how many could not be done
        kind string: redrive, discard or cancel
        queue string: the queue
        by string: who asked for it
        reason string?: why
        filter any: which letters
        cutoff integer: the highest sequence that is meant
        rate integer?: the most letters a second
        to string?: the function that is called instead
        canary integer?: how many go first
        require integer?: how many of a hundred of these have to succeed
        cursor integer: all letters up to this sequence are done with
        worker string?: who carries it out
        note string?: a word about its state
        made time?: when it was made
        updated time?: when its record was last written",
    ),
    (
        "Counts",
        "operation any: null
        state string: dry-run
        matched integer: how many are meant
        redriven~ integer: 0
        discarded~ integer: 0
        cancelled~ integer: 0
        skipped integer: how many are in other open operations
        failed integer: 0",
    ),
    (
        "Moved",
        "matched integer: how many parked retries were found
        done integer: how many are due now
        skipped integer: how many were due or gone by then
        more boolean: whether there may be more
        next string?: the cursor of the next part",
    ),
    (
        "Pauses",
        "queue string: its name
        paused boolean: whether all of it is paused
        pause Pause?: who paused it
        pausedFunctions []Pause: its functions that are paused",
    ),
    (
        "Cancelled",
        "callId string: its id
        state string: cancelled, or cancelling where there is no end yet
        queue string?: its queue
        function string?: the function
        sequence integer?: its dead letter",
    ),
    (
        "Call",
        "callId string: its id
        state string: waiting, running, parked, done, dead or cancelled
        function string?: the function
        queue string?: its queue
        attempts []Attempt: its last attempts
        due time?: when the next one is due
        cause string?: why it was given up
        worker string?: who has it, or had it last
        firstSeen time?: when it arrived
        since time?: when it came into this state
        originalId string?: stream and id of the invocation
        redrives integer?: how often it was sent round again, where that is known
        sequence integer?: its dead letter
        note string?: a word about it
        others~ []Call: other calls of this id",
    ),
    (
        "Policy",
        "function string?: the function
        maxAttempts integer: how often a call is tried
        immediateRetries integer: how often at once
        initialRetryWaitSeconds number: the wait before the second attempt
        maxRetryWaitSeconds number: the longest wait
        maxMessageAgeSeconds number?: the age at which a call expires
        httpRetryCodes string: the statuses that are retried
        attempts []Planned: the attempts
        totalWaitSeconds Range: all waits together
        worstCaseSeconds number: when the last attempt ends if each takes as long as it may",
    ),
    (
        "Planned",
        "n integer: its number
        waitSeconds Range: the wait before it
        afterSeconds Range: all waits up to it",
    ),
    (
        "Range",
        "least number: at least
        most number: at most",
    ),
    (
        "Records",
        "items []Record: the records
        more boolean: whether there may be more
        next string?: the cursor of the next part",
    ),
    (
        "Record",
        "record string: call or action
        at time?: when
        queue string: the queue
        function~ string?: of a call: the function
        callId string?: the call's id
        originalId~ string: of a call: stream and id of the invocation
        outcome~ string: of a call: completed, or why it was given up
        attempts~ []Attempt: of a call: its last attempts
        attemptsMade~ integer: of a call: how many there were
        firstSeen~ time?: of a call: when it arrived
        queueWaitMilliseconds~ integer?: of a call: from its arrival to its first attempt
        milliseconds~ integer: of a call: from its arrival to its end
        worker~ string: of a call: who had it last
        redrives~ integer: of a call: how often it was sent round again
        action~ string: of an action: what was done
        by~ string: of an action: by whom
        filter~ any: of an action: to which messages
        count~ integer?: of an action: to how many
        reason~ string?: of an action: why
        operation~ string?: of an action: the operation that does it
        state~ string?: of an action: how that ended",
    ),
];

/// All of them.
pub(super) fn all() -> Value {
    let mut all: Map<_, _> = SCHEMAS.iter().map(|(name, text)| ((*name).to_owned(), schema(text))).collect();
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    all.insert("Headers".to_owned(), json!({ "type": "object", "additionalProperties": texts }));
    all.insert(
        "Status".to_owned(),
        json!({
            "type": ["integer", "string"],
            "description": "An HTTP status, or timeout, unreachable or broken",
        }),
    );
    all.insert("Document".to_owned(), json!({ "type": "object", "description": "In OpenAPI 3.1" }));
    all.into()
}

/// The lines of a schema, those of the one that it begins as included.
fn lines(text: &'static str) -> Vec<&'static str> {
    let of = |name| SCHEMAS.iter().filter(move |(other, _)| *other == name).flat_map(|(_, text)| lines(text));
    let all = text.lines().map(str::trim);
    all.flat_map(|line| line.strip_prefix("as ").map_or_else(|| vec![line], |name| of(name).collect()))
        .collect()
}

fn schema(text: &'static str) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for line in lines(text) {
        let Some((head, about)) = line.split_once(": ") else { continue };
        let Some((name, kind)) = head.split_once(' ') else { continue };
        let plain = name.trim_end_matches('~');
        if plain == name {
            required.push(plain);
        }
        properties.insert(plain.to_owned(), property(kind, about));
    }
    json!({ "type": "object", "required": required, "properties": properties })
}

fn property(kind: &str, about: &str) -> Value {
    if let Some(kind) = kind.strip_prefix("[]") {
        return json!({ "type": "array", "description": about, "items": property_of(kind) });
    }
    let schema = match kind.strip_suffix('?') {
        None => property_of(kind),
        Some(kind) => match property_of(kind) {
            Value::Object(mut schema) if schema.contains_key("type") => {
                if let Some(kind) = schema.remove("type") {
                    schema.insert("type".to_owned(), json!([kind, "null"]));
                }
                schema.into()
            }
            schema => json!({ "anyOf": [schema, { "type": "null" }] }),
        },
    };
    match schema {
        Value::Object(mut schema) => {
            schema.insert("description".to_owned(), about.into());
            schema.into()
        }
        other => other,
    }
}

fn property_of(kind: &str) -> Value {
    match kind {
        "any" => json!({}),
        "time" => json!({ "type": "string", "format": "date-time" }),
        kind if kind.starts_with(char::is_uppercase) => {
            json!({ "$ref": format!("#/components/schemas/{kind}") })
        }
        kind => json!({ "type": kind }),
    }
}
