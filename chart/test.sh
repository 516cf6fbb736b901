#!/usr/bin/env bash
# Tests the chart: its settings against the program's, its README against values.yaml, unit tests,
# lint, and every rendering of ci/*-values.yaml against the schemas of three versions of Kubernetes and the operators' types.
# `chart/test.sh --write` writes the chart's README.md first.
#
# The tools are built with Go (1.26) and fetched with pip into .cache/chart once; after that nothing here needs a network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly chart=chart/queue-worker
# The oldest that the chart is for, one between, and the newest that there are schemas of.
readonly kubernetes=(1.27.0 1.32.0 1.37.0)
readonly validator=kubernetes-validate==1.37.0

readonly cache="$PWD/.cache/chart"
readonly bin="$cache/bin"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# Neither somebody's cluster nor somebody's Helm has a say in this.
export KUBECONFIG=/dev/null HELM_CACHE_HOME="$scratch/helm" HELM_CONFIG_HOME="$scratch/helm" HELM_DATA_HOME="$scratch/helm"

say() { printf '\n== %s\n' "$*"; }

# The tools are those of chart/tools and of this script: they are built again only when one of these changes.
tools() {
    local stamp
    stamp="$(cat chart/tools/go.mod chart/tools/go.sum chart/tools/*/*.go <(echo "$validator") | sha256sum)"
    [ "$(cat "$cache/stamp" 2>/dev/null)" = "$stamp" ] && return
    say "building the tools, once (some minutes)"
    mkdir -p "$bin"
    (cd chart/tools && go build -o "$bin/" tool && go build -o "$bin/manifests" ./manifests)
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "$validator"
    echo "$stamp" >"$cache/stamp"
}

docs() { "$bin/helm-docs" -c "$chart" --template-files README.md.gotmpl --sort-values-order file --log-level warning "$@"; }

tools

if [ "${1:-}" = --write ]; then
    docs
fi

say "the README is made of values.yaml"
docs --dry-run | diff -u "$chart/README.md" - || { echo "run chart/test.sh --write"; exit 1; }

say "the chart and the program agree"
"$cache/venv/bin/python" chart/tools/agree.py .

say "unit tests"
"$bin/helm-unittest" "$chart"

say "lint and render"
for values in "$chart"/ci/*-values.yaml; do
    name="$(basename "$values" -values.yaml)"
    for version in "${kubernetes[@]}"; do
        "$bin/helm" lint --strict --quiet --kube-version "$version" -f "$values" "$chart"
        "$bin/helm" template queue-worker "$chart" --namespace openfaas --kube-version "$version" -f "$values" \
            >"$scratch/$name-$version.yaml"
    done
    echo "$name: $(grep -c '^kind:' "$scratch/$name-${kubernetes[0]}.yaml") manifests"
done

say "the schemas of Kubernetes"
for version in "${kubernetes[@]}"; do
    "$cache/venv/bin/python" chart/tools/validate.py "$version" "$scratch"/*-"$version".yaml
done

say "the operators, the restricted Pod security standard"
"$bin/manifests" "$scratch"/*-"${kubernetes[0]}".yaml

say "what is installed holds nothing but the chart"
"$bin/helm" package "$chart" --destination "$scratch" >/dev/null
tar -tzf "$scratch"/queue-worker-*.tgz | sed 's,^[^/]*/,,; s,/.*,,' | sort -u | diff - <(printf '%s\n' \
    .helmignore Chart.yaml README.md files templates values.schema.json values.yaml | sort)

say "the chart holds"
