#!/usr/bin/env python3
"""Prints the Grafana dashboard: `chart/dashboard.py > chart/queue-worker/files/dashboard.json`.

The list below is the dashboard; everything else is what Grafana wants around it. In queries PROCESS, QUEUE and FUNCTION stand
for the labels that the variables at the top of the page choose.
"""

import json

# What is counted for a process, for a queue of it, and for a function of a queue.
PROCESS = 'namespace=~"$namespace",job=~"$job"'
QUEUE = PROCESS + ',queue_name=~"$queue_name"'
FUNCTION = QUEUE + ',function_name=~"$function_name"'



def share(bad, every, by=""):
    """How much of `every` is `bad`: 0 where nothing is, and a series for it does not even exist; nothing where there is nothing."""
    bad, every = (f"sum{by} (rate({counted}[$__rate_interval]))" for counted in (bad, every))
    return f"{bad} / ({every} > 0) or 0 * ({every} > 0)"


FAILED = ('queue_worker_attempts_total{FUNCTION,outcome!="success"}', "queue_worker_attempts_total{FUNCTION}")
CALLBACKS_FAILED = ('queue_worker_callbacks_total{QUEUE,result!="delivered"}', "queue_worker_callbacks_total{QUEUE}")

# Depths and ages are the broker's: every replica shows the same, hence max. Everything else is each replica's own, hence sum.
# Each panel: title, unit, kind, and its queries, each with its legend; then what the title does not say.
# Kinds: stat, ready, failing and danger (one number, in the colours of THRESHOLDS), lines, areas (stacked), bars (stacked), states
# (one line a series: 1 is well, 0 is not), table.
ROWS = [
    ("Now", [
        ("Workers that are ready", "none", "ready", [("sum(queue_worker_ready{PROCESS})", "")],
            "Of all that are scraped. Red: none is."),
        ("Waiting", "short", "stat", [("sum(max by (namespace, queue_name, function_name) (queue_worker_pending_messages{FUNCTION}))", "")],
            "Messages that no worker has taken yet."),
        ("Oldest waits for", "s", "stat", [("max(queue_worker_oldest_pending_age_seconds{QUEUE})", "")],
            "0 when nothing waits."),
        ("Parked retries", "short", "stat", [("sum(max by (namespace, queue_name) (queue_worker_retries_parked{QUEUE}))", "")],
            "Failed calls that wait for their next attempt. They hold up nothing."),
        ("Calls that fail", "percentunit", "failing", [(share(*FAILED), "")],
            "Of all attempts, retries among them."),
        ("Dead letters in a quarter of an hour", "short", "danger", [
            ("ceil(sum(increase(queue_worker_dead_letters_total{FUNCTION}[15m]) > 0 or (queue_worker_dead_letters_total{FUNCTION} unless queue_worker_dead_letters_total{FUNCTION} offset 15m))) or vector(0)", "")],
            "About so many. QueueWorkerDeadLetters looks at this."),
    ]),
    ("Traffic", [
        ("Arriving and settled", "ops", "lines", [
            ("sum(max by (namespace, queue_name) (rate(queue_worker_messages_submitted_total{QUEUE}[$__rate_interval])))", "arriving"),
            ("sum(rate(queue_worker_messages_processed_total{QUEUE}[$__rate_interval]))", "settled")],
            "Settled: completed, or a dead letter. What is parked for a retry is neither yet."),
        ("Backlog", "short", "lines", [
            ("max by (queue_name, function_name) (queue_worker_pending_messages{FUNCTION})", "{{queue_name}} {{function_name}}")],
            "Messages that no worker has taken yet. all-functions: the gateway's subjects do not tell them apart."),
        ("Age of the oldest message", "s", "lines", [("max by (queue_name) (queue_worker_oldest_pending_age_seconds{QUEUE})", "{{queue_name}}")],
            "Of those that no worker has taken yet, fresh or due. QueueWorkerBacklogOld looks at this."),
        ("Calls in flight", "short", "areas", [
            ("sum by (function_name) (queue_worker_function_invocation_inflight{FUNCTION})", "{{function_name}}")],
            "max_inflight in each replica is the most there can be. At the limit, messages wait."),
    ]),
    ("Outcomes", [
        ("Calls by outcome", "ops", "areas", [
            ("sum by (outcome) (rate(queue_worker_attempts_total{FUNCTION}[$__rate_interval]))", "{{outcome}}")],
            "unreachable, timeout and broken had no answer; the others are classes of HTTP statuses."),
        ("Failed calls by function", "ops", "lines", [
            ('topk(10, sum by (function_name) (rate(queue_worker_attempts_total{FUNCTION,outcome!="success"}[$__rate_interval])) > 0)', "{{function_name}}")],
            "The ten that fail most. All at once: look at the gateway."),
        ("Share of calls that fail", "percentunit", "lines", [(share(*FAILED, by=" by (queue_name)"), "{{queue_name}}")],
            "QueueWorkerCallsFailing looks at this."),
    ]),
    ("Retries", [
        ("Retries by reason", "ops", "areas", [
            ("sum by (reason) (rate(queue_worker_retries_total{FUNCTION}[$__rate_interval]))", "{{reason}}")],
            "status: one of http_retry_codes. internal: the platform answered in the function's place."),
        ("Parked retries", "short", "lines", [("max by (queue_name) (queue_worker_retries_parked{QUEUE})", "{{queue_name}}")],
            "They come back by themselves when they are due."),
        ("Lateness of retries", "s", "lines", [
            ("histogram_quantile(0.5, sum by (le) (rate(queue_worker_retry_lateness_seconds_bucket{QUEUE}[$__rate_interval])))", "median"),
            ("histogram_quantile(0.99, sum by (le) (rate(queue_worker_retry_lateness_seconds_bucket{QUEUE}[$__rate_interval])))", "99 %")],
            "From the due time to the call. High while all permits are taken."),
        ("Look-ups of functions", "ops", "areas", [
            ("sum by (result) (rate(queue_worker_function_lookups_total{PROCESS}[$__rate_interval]))", "{{result}}")],
            "With function_lookup. While they fail, the worker's settings stand in for functions' own retry policies."),
    ]),
    ("Pauses", [
        ("Paused", "short", "lines", [("max by (queue_name, function_name) (queue_worker_paused{FUNCTION})", "{{queue_name}} {{function_name}}")],
            "1 while an operator has paused a queue (all-functions) or a function: queue-worker queue resume ends it."),
        ("Pauses last", "s", "lines", [("max by (queue_name, function_name) (queue_worker_paused_seconds{FUNCTION})", "{{queue_name}} {{function_name}}")],
            "Since when an operator's pauses are. QueueWorkerPauseForgotten looks at this."),
        ("Held messages", "short", "lines", [("max by (queue_name, function_name) (queue_worker_held_messages{FUNCTION})", "{{queue_name}} {{function_name}}")],
            "Of functions that are paused, or were and whose messages are being called."),
    ]),
    ("Nothing may lie here", [
        ("Messages for nobody", "short", "lines", [("max by (queue_name) (queue_worker_orphaned_messages{QUEUE})", "{{queue_name}}")],
            "Stored, but neither pending nor parked nor in a worker's hands. QueueWorkerOrphans looks at this."),
        ("Overdue retries", "short", "lines", [("max by (queue_name) (queue_worker_overdue_holders{QUEUE})", "{{queue_name}}")],
            "Parked, and a minute or more past their due time. QueueWorkerRetriesOverdue looks at this."),
        ("Unsettled", "short", "lines", [("sum by (queue_name) (queue_worker_unsettled{QUEUE})", "{{queue_name}}")],
            "They wait in workers for NATS, most of them to be settled. QueueWorkerUnsettled looks at this."),
        ("Oldest unsettled", "s", "lines", [("max by (queue_name) (queue_worker_unsettled_oldest_seconds{QUEUE})", "{{queue_name}}")],
            "How long NATS has not done what the oldest of them needs. The workers' logs say why."),
    ]),
    ("Dead letters", [
        ("Dead letters by cause", "short", "bars", [
            ("sum by (cause) (increase(queue_worker_dead_letters_total{FUNCTION}[$__rate_interval])) > 0", "{{cause}}")],
            "exhausted: no attempt was left. refused: the answer is one that no retry changes."),
        ("Dead letters of this time range", "short", "table", [
            ("sort_desc(ceil(sum by (queue_name, function_name, cause) (increase(queue_worker_dead_letters_total{FUNCTION}[$__range]) > 0 or (queue_worker_dead_letters_total{FUNCTION} unless queue_worker_dead_letters_total{FUNCTION} offset $__range))))", "")],
            "About so many, by function: start here when QueueWorkerDeadLetters fires."),
        ("Stored dead letters", "short", "lines", [("max by (queue_name) (queue_worker_dead_letters{QUEUE})", "{{queue_name}}")],
            "They go when they are redriven, or by the limits of their stream."),
        ("Dropped and unstorable", "short", "bars", [
            ("sum(increase(queue_worker_dead_letters_dropped_total{PROCESS}[$__rate_interval]))", "dropped"),
            ("sum(increase(queue_worker_unstorable_messages_total{PROCESS}[$__rate_interval]))", "unstorable")],
            "Dropped: not kept, as dead_letters=false asks. Unstorable: larger than NATS's max_payload."),
    ]),
    ("Callbacks", [
        ("Callbacks by result", "ops", "areas", [
            ("sum by (result) (rate(queue_worker_callbacks_total{QUEUE}[$__rate_interval]))", "{{result}}")],
            "Tries, not callbacks: one that fails is tried again."),
        ("Share of callbacks that fail", "percentunit", "lines", [(share(*CALLBACKS_FAILED, by=" by (queue_name)"), "{{queue_name}}")],
            "QueueWorkerCallbacksFailing looks at this."),
    ]),
    ("Latency", [
        ("Duration of a call", "s", "lines", [
            ("histogram_quantile(0.5, sum by (le) (rate(queue_worker_attempt_duration_seconds_bucket{QUEUE}[$__rate_interval])))", "median"),
            ("histogram_quantile(0.95, sum by (le) (rate(queue_worker_attempt_duration_seconds_bucket{QUEUE}[$__rate_interval])))", "95 %"),
            ("histogram_quantile(0.99, sum by (le) (rate(queue_worker_attempt_duration_seconds_bucket{QUEUE}[$__rate_interval])))", "99 %")],
            "One attempt, whatever came of it."),
        ("Wait for the first call", "s", "lines", [
            ("histogram_quantile(0.5, sum by (le) (rate(queue_worker_queue_wait_seconds_bucket{QUEUE}[$__rate_interval])))", "median"),
            ("histogram_quantile(0.99, sum by (le) (rate(queue_worker_queue_wait_seconds_bucket{QUEUE}[$__rate_interval])))", "99 %")],
            "From the arrival in the queue."),
        ("From arrival to end", "s", "lines", [
            ("histogram_quantile(0.5, sum by (le) (rate(queue_worker_end_to_end_seconds_bucket{QUEUE}[$__rate_interval])))", "median"),
            ("histogram_quantile(0.99, sum by (le) (rate(queue_worker_end_to_end_seconds_bucket{QUEUE}[$__rate_interval])))", "99 %")],
            "With all retries, and whatever the end."),
    ]),
    ("Workers and connections", [
        ("Ready", "none", "states", [("queue_worker_ready{PROCESS}", "{{pod}} {{instance}}")],
            "What /readyz says, of each worker."),
        ("Leases lost, connections made anew", "short", "bars", [
            ("sum(increase(queue_worker_lease_lost_total{PROCESS}[$__rate_interval]))", "leases lost"),
            ("sum(increase(queue_worker_nats_reconnect_total{PROCESS}[$__rate_interval]))", "connections"),
            ("sum(increase(queue_worker_part_restarts_total{PROCESS}[$__rate_interval]))", "parts started again")],
            "A lease that is lost is a call that is made again. A part that is started again ended by itself; the log names it."),
        ("Messages over the bridge", "ops", "areas", [
            ("sum by (result) (rate(queue_worker_stan_messages_total{QUEUE}[$__rate_interval]))", "{{result}}")],
            "From gateways that speak NATS Streaming, with stan_bridge=true. Failed and refused ones were answered with an error."),
        ("Calls taken in by HTTP", "ops", "areas", [
            ("sum by (queue_name) (rate(queue_worker_ingress_accepted_total{QUEUE}[$__rate_interval]))", "{{queue_name}}"),
            ("sum by (reason) (rate(queue_worker_ingress_refused_total{PROCESS}[$__rate_interval]))", "refused: {{reason}}")],
            "With ingress_addr. One that was refused was not stored, and its caller knows."),
        ("Time until NATS has stored them", "s", "lines", [
            ("histogram_quantile(0.5, sum by (le) (rate(queue_worker_ingress_store_seconds_bucket{PROCESS}[$__rate_interval])))", "median"),
            ("histogram_quantile(0.99, sum by (le) (rate(queue_worker_ingress_store_seconds_bucket{PROCESS}[$__rate_interval])))", "99 %")],
            "Callers of the ingress wait for that."),
        ("Redrives and discards", "none", "lines", [
            ("max by (queue_name) (queue_worker_operations_open{QUEUE})", "open: {{queue_name}}"),
            ("max by (queue_name) (queue_worker_operations_letters_left{QUEUE})", "letters left: {{queue_name}}"),
            ("sum by (state) (increase(queue_worker_operations_ended_total{QUEUE}[$__rate_interval]))", "ended: {{state}}")],
            "What operators asked for, and how far it is."),
        ("Audit", "ops", "areas", [
            ("sum by (result) (rate(queue_worker_audit_records_total{QUEUE}[$__rate_interval]))", "{{result}}")],
            "With audit=failures or all. A record that is dropped stops no call."),
        ("So far back tells the audit", "s", "lines", [
            ("max by (queue_name) (queue_worker_audit_oldest_age_seconds{QUEUE})", "{{queue_name}}")],
            "Its stream is bounded by age and bytes."),
        ("Versions", "none", "lines", [("sum by (version) (queue_worker_build_info{PROCESS})", "{{version}}")],
            "How many workers run which."),
    ]),
]

# What is good is green wherever it is shown, and what is bad is not.
COLORS = {
    "success": "green", "delivered": "green", "stored": "green", "found": "green",
    "throttled": "yellow", "retry_after": "yellow", "retried": "yellow", "duplicate": "yellow", "not_found": "yellow",
    "timeout": "orange", "expired": "orange", "broken": "light-orange", "callback": "light-orange",
    "server_error": "red", "status": "red", "failed": "red", "exhausted": "red",
    "unreachable": "dark-red", "internal": "dark-red", "interrupted": "dark-red",
    "client_error": "purple", "gateway_not_found": "purple", "refused": "purple", "redirect": "light-purple",
    "undecodable": "blue", "cancelled": "light-blue",
}
# The labels whose values those are.
COLORED = ("{{outcome}}", "{{reason}}", "{{cause}}", "{{result}}")

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
THRESHOLDS = {
    "stat": [("blue", None)],
    "ready": [("red", None), ("green", 1)],
    "failing": [("green", None), ("orange", 0.1), ("red", 0.5)],
    "danger": [("green", None), ("red", 1)],
    "states": [("red", None), ("green", 1)],
}
WIDTH = 24
HEIGHTS = {"Now": 4}


def expression(query):
    for name in ("PROCESS", "QUEUE", "FUNCTION"):
        query = query.replace("{" + name, "{" + globals()[name])
    return query


def defaults(unit, kind):
    """What holds for all series of a panel."""
    field = {"unit": unit}
    if kind in ("lines", "areas", "bars"):
        field["min"] = 0
        field["color"] = {"mode": "palette-classic"}
        field["custom"] = {
            "drawStyle": "bars" if kind == "bars" else "line",
            "fillOpacity": {"lines": 8, "areas": 45, "bars": 80}[kind],
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "none" if kind == "lines" else "normal", "group": "A"},
        }
    if unit == "percentunit":
        field["max"] = 1
    if kind in THRESHOLDS:
        field["thresholds"] = {"mode": "absolute", "steps": [{"color": color, "value": least} for color, least in THRESHOLDS[kind]]}
        field["color"] = {"mode": "thresholds"}
        field["noValue"] = "-"
    if kind == "states":
        field["mappings"] = [{"type": "value", "options": {"0": {"text": "not ready"}, "1": {"text": "ready"}}}]
    return field


def overrides(queries):
    """The colours of series by their names."""
    if all(legend not in COLORED for _, legend in queries):
        return []
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
        for name, color in COLORS.items()
    ]


def panel(title, unit, kind, queries, description):
    type_ = {"lines": "timeseries", "areas": "timeseries", "bars": "timeseries", "states": "state-timeline", "table": "table"}.get(kind, "stat")
    over_time = type_ in ("timeseries", "state-timeline")
    made = {
        "type": type_,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults(unit, kind), "overrides": overrides(queries)},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expression(query), "legendFormat": legend or "__auto"}
            | ({} if over_time else {"instant": True, "range": False})
            | ({"format": "table"} if kind == "table" else {})
            for n, (query, legend) in enumerate(queries)
        ],
    }
    if type_ == "timeseries":
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif type_ == "state-timeline":
        made["options"] = {"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": {"showLegend": False}}
    elif type_ == "table":
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "about"}}}]
    else:
        made["options"] = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def panels():
    top = 0
    for row, members in ROWS:
        yield {"type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}
        top += 1
        height, width = HEIGHTS.get(row, 8), WIDTH // len(members)
        for n, member in enumerate(members):
            yield panel(*member) | {"gridPos": {"x": n * width, "y": top, "w": width, "h": height}}
        top += height


def choice(name, label, metric, labels):
    return {
        "type": "query", "name": name, "label": label, "datasource": SOURCE,
        "query": {"query": f"label_values({metric}{{{labels}}}, {name})", "refId": name},
        # Everything, those without the label among them: outside of Kubernetes there is no namespace.
        "includeAll": True, "allValue": ".*", "multi": True, "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2, "sort": 1,
    }


def dashboard():
    return {
        "title": "queue-worker",
        "uid": "queue-worker",
        "description": "Asynchronous calls of functions: what arrives, what becomes of it, and how the workers are.",
        "tags": ["queue-worker", "openfaas"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": [
            {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
            choice("namespace", "Namespace", "queue_worker_build_info", ""),
            choice("job", "Job", "queue_worker_build_info", 'namespace=~"$namespace"'),
            choice("queue_name", "Queue", "queue_worker_messages_processed_total", PROCESS),
            choice("function_name", "Function", "queue_worker_attempts_total", QUEUE),
        ]},
        "annotations": {"list": [{
            "name": "Alerts", "enable": True, "iconColor": "red", "datasource": SOURCE,
            "expr": 'ALERTS{alertname=~"QueueWorker.+",alertstate="firing"}',
            "titleFormat": "{{alertname}}", "textFormat": "{{queue_name}} {{cause}}", "step": "30s",
        }]},
        "panels": [{"id": n} | made for n, made in enumerate(panels(), start=1)],
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
