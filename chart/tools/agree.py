"""Holds the chart to the program: its settings and their defaults, its metrics and its version.

What the program has is read from docs/settings.md and docs/metrics.md, whose tables tests/tidy.rs holds to the program's own.

usage: agree.py ROOT
"""

import json
import re
import sys
from pathlib import Path

import yaml

# Settings that have no value of their own, and what stands in for them.
WITHOUT_A_VALUE = {
    "nats_host": "natsUrl",
    "nats_port": "natsUrl",
    "faas_nats_address": "natsUrl",
    "faas_nats_port": "natsUrl",
    "faas_gateway_address": "gatewayUrl",
    "faas_gateway_port": "gatewayUrl",
    "secret_mount_path": "basicAuthSecret",
}
# Where a default differs from the program's: localhost in a Pod is the worker itself.
OWN_DEFAULTS = {"gatewayUrl"}


def table(path, header):
    """The rows of the table in that file whose header row begins so, as lists of cells."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.startswith(header):
            break
    else:
        sys.exit(f"{path} has no table {header}")
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split(" |")])
    return rows


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def faults(root):
    chart = root / "chart/queue-worker"
    defaults = {row[0]: row[2] for row in table(root / "docs/settings.md", "| setting | also | default")}
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    settings = re.search(r'define "queue-worker.settings" -}}(.*?){{', (chart / "templates/_settings.tpl").read_text(), re.S)
    rendered = settings[1].split()

    for name, default in defaults.items():
        if name in WITHOUT_A_VALUE:
            continue
        key = camel(name)
        if name not in rendered:
            yield f"{name}: a setting of the program that templates/_settings.tpl does not pass on"
        if key not in values:
            yield f"{name}: values.yaml has no {key}"
            continue
        value = values[key]
        # An empty value is not rendered, so that the program's own default holds.
        if isinstance(value, dict) and not value["secret"] or value == "":
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if text != default and key not in OWN_DEFAULTS:
            yield f"{key}: {text} in values.yaml, {default} in the program"
    for name in rendered:
        if name not in defaults:
            yield f"{name}: templates/_settings.tpl passes on what is no setting of the program"
    for key in values.keys() ^ (schema["properties"].keys() - {"global"}):
        yield f"{key}: only one of values.yaml and values.schema.json has it"

    metrics = {row[0] for row in table(root / "docs/metrics.md", "| metric | labels")}
    rules = [rule for group in yaml.safe_load((chart / "files/alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    sources = {f"alert {rule['alert']}": rule["expr"] for rule in rules}
    sources |= {path.name: path.read_text() for path in (chart / "templates").glob("*scale*.yaml")}
    sources |= {path.name: path.read_text() for path in (chart / "files").glob("*.json")}
    for where, text in sources.items():
        for metric in set(re.findall(r"\bqueue_worker_[a-z_]+", text)):
            # A histogram is read by its parts.
            if not {metric, re.sub("_(bucket|sum|count)$", "", metric)} & metrics:
                yield f"{where}: {metric} is no metric of the program"

    version = re.search(r'^version = "(.*)"', (root / "Cargo.toml").read_text(), re.M)[1]
    application = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    if version != application:
        yield f"appVersion: {application} in Chart.yaml, {version} in Cargo.toml"


found = list(faults(Path(sys.argv[1])))
print("\n".join(found) or "the chart and the program agree")
sys.exit(bool(found))
