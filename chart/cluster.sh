#!/usr/bin/env bash
# Installs the chart in a real Kubernetes: etcd, the API server and the controllers, of the newest version that chart/test.sh
# knows, built from their sources. There is no scheduler and no node: no container runs, and what they would report, this script
# reports.
#
# Each of ci/*-values.yaml is installed in a namespace that enforces the restricted Pod security standard; all its Pods must be
# made, and become ready in the eyes of the controllers; the release is changed, rolled back, and leaves nothing when it goes.
#
# Needs Go (1.26), Python and openssl, and the first time a network and a quarter of an hour on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly chart=chart/queue-worker
readonly monitoring=github.com/prometheus-operator/prometheus-operator@v0.94.0
cache="$PWD/.cache/chart"
readonly cache bin="$cache/cluster"
scratch="$(mktemp -d)"
pids=()
finish() {
    local status=$?
    # Nothing of theirs is kept, so they need not take their leave.
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    [ "$status" = 0 ] || for log in "$scratch"/*.log; do printf -- '--- %s\n' "${log##*/}"; tail -n 10 "$log" | cut -c 1-500; done
    rm -rf "$scratch"
}
trap finish EXIT

say() { printf '\n== %s\n' "$*"; }
fail() { echo "$*" >&2; exit 1; }

# Awaits that a command succeeds; its last words say why it does not.
await() {
    local what="$1" until=$((SECONDS + 180))
    shift
    while ((SECONDS < until)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
    "$@" || fail "not within three minutes: $what"
}

tools() {
    local stamp
    stamp="$(cat chart/tools/go.mod chart/tools/go.sum chart/tools/cluster/go.* <(echo "$monitoring") | sha256sum)"
    [ "$(cat "$bin/stamp" 2>/dev/null)" = "$stamp" ] && return
    say "building Kubernetes, once (a quarter of an hour)"
    mkdir -p "$bin/crds"
    local version
    version="$(cd chart/tools/cluster && go list -m -f '{{.Version}}' k8s.io/kubernetes)"
    local minor="${version#v1.}"
    (cd chart/tools/cluster && go build -o "$bin/" -ldflags "-X k8s.io/component-base/version.gitVersion=$version \
        -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=${minor%%.*}" tool)
    mv "$bin/server" "$bin/etcd"
    (cd chart/tools && go build -o "$bin/helm" helm.sh/helm/v3/cmd/helm)
    local keda operator
    keda="$(cd chart/tools && go list -m -f '{{.Dir}}' github.com/kedacore/keda/v2)"
    operator="$(cd "$scratch" && go mod download -json "$monitoring" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')"
    install -m 644 "$keda"/config/crd/bases/keda.sh_scaledobjects.yaml \
        "$operator"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,podmonitors,prometheusrules}.yaml "$bin/crds/"
    echo "$stamp" >"$bin/stamp"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# One log a program, whose end nobody awaits but finish.
start() {
    local name="$1"
    shift
    "$@" >"$scratch/$name.log" 2>&1 &
    pids+=($!)
}

tools
mkdir "$scratch/helm"
export KUBECONFIG="$scratch/config" HELM_CACHE_HOME="$scratch/helm" HELM_CONFIG_HOME="$scratch/helm" HELM_DATA_HOME="$scratch/helm"
kubectl() { "$bin/kubectl" "$@"; }
helm() { "$bin/helm" "$@"; }

say "etcd, the API server, the controllers"
store="$(free_port)" peer="$(free_port)" api="$(free_port)"
openssl genrsa -out "$scratch/key" 2048 2>/dev/null
token="$(openssl rand -hex 16)"
echo "$token,admin,1,system:masters" >"$scratch/tokens"
start etcd "$bin/etcd" --data-dir "$scratch/etcd" --listen-client-urls "http://127.0.0.1:$store" --advertise-client-urls "http://127.0.0.1:$store" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
    --unsafe-no-fsync
start kube-apiserver "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$store" --bind-address 127.0.0.1 --secure-port "$api" \
    --cert-dir "$scratch/certs" --token-auth-file "$scratch/tokens" --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/24 \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$scratch/key" --service-account-signing-key-file "$scratch/key"
await "the API server's certificate" test -s "$scratch/certs/apiserver.crt"
kubectl config set-cluster here --server "https://127.0.0.1:$api" --certificate-authority "$scratch/certs/apiserver.crt" --embed-certs >/dev/null
kubectl config set-credentials admin --token "$token" >/dev/null
kubectl config set-context here --cluster here --user admin >/dev/null
kubectl config use-context here >/dev/null
await "the API server is ready" kubectl get --raw /readyz
start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig "$KUBECONFIG" --service-account-private-key-file "$scratch/key" \
    --root-ca-file "$scratch/certs/apiserver.crt" --secure-port 0 --leader-elect=false \
    --controllers '*,-node-lifecycle-controller,-taint-eviction-controller'
kubectl version | sed -n 's/^Server Version: /Kubernetes /p'
kubectl apply --server-side -f "$bin/crds" >/dev/null
kubectl wait --for condition=established --timeout 60s -f "$bin/crds" >/dev/null

# The one node, and what the values of some files name as theirs.
kubectl create -f - >/dev/null <<'OBJECTS'
{apiVersion: v1, kind: Node, metadata: {name: node}}
---
{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 1000}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}, provisioner: example.com/none}
OBJECTS

# What the scheduler decides, and what a kubelet reports of a Pod: that it runs and is ready, or that it has ended.
ready() {
    printf '{"status": {"phase": "Running", "podIP": "%s", "podIPs": [{"ip": "%s"}], "conditions": [{"type": "Ready", "status": "True"}]}}' "$1" "$1"
}
pods_so_far=0
report() {
    local pod
    for pod in $(kubectl -n "$1" get pods --field-selector status.phase=Pending -o name); do
        kubectl create --raw "/api/v1/namespaces/$1/pods/${pod#pod/}/binding" -f - >/dev/null <<<"{\"apiVersion\": \"v1\", \"kind\": \"Binding\",
            \"metadata\": {\"name\": \"${pod#pod/}\"}, \"target\": {\"apiVersion\": \"v1\", \"kind\": \"Node\", \"name\": \"node\"}}"
        kubectl -n "$1" patch "$pod" --subresource status --type merge -p "$(ready "10.1.0.$((++pods_so_far))")" >/dev/null
    done
    for pod in $(kubectl -n "$1" get pods -o jsonpath='{range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name} {end}'); do
        kubectl -n "$1" delete pod "$pod" --force --grace-period 0 >/dev/null 2>&1
    done
}

# Whether all Pods of a namespace's workloads are made and available; says what a controller complains of.
available() {
    report "$1"
    kubectl -n "$1" get deployments,statefulsets -o json | python3 -c '
import json, sys
for item in json.load(sys.stdin)["items"]:
    name, spec, status = item["metadata"]["name"], item["spec"], item["status"]
    for condition in status.get("conditions", []):
        if condition["type"] == "ReplicaFailure":
            sys.exit(name + ": " + condition["message"])
    ready = status.get("availableReplicas", 0) == status.get("updatedReplicas", 0) == status.get("replicas", 0) == spec["replicas"]
    if not ready or status.get("observedGeneration") != item["metadata"]["generation"]:
        sys.exit(name + " waits")
'
}

namespace() {
    kubectl create namespace "$1" >/dev/null
    kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
    # What the values of one file name as theirs.
    kubectl -n "$1" create serviceaccount existing >/dev/null
    await "the namespace's service account" kubectl -n "$1" get serviceaccount default
}

# As many addresses behind each Service as there are Pods that it selects, and at least one.
served() {
    local service selector
    for service in $(kubectl -n "$1" get services -o name); do
        selector="$(kubectl -n "$1" get "$service" -o json | python3 -c 'import json, sys; print(",".join("=".join(p) for p in json.load(sys.stdin)["spec"]["selector"].items()))')"
        [ "$(kubectl -n "$1" get endpointslices -l "kubernetes.io/service-name=${service#service/}" -o jsonpath='{.items[*].endpoints[*].targetRef.name}' | wc -w)" \
            = "$(kubectl -n "$1" get pods -l "$selector" --no-headers | grep -c .)" ] \
            || { echo "$service names other Pods than it selects"; return 1; }
    done
}

count() { kubectl -n "$1" get pods --no-headers 2>/dev/null | wc -l; }

for values in "$chart"/ci/*-values.yaml; do
    name="ci-$(basename "$values" -values.yaml)"
    namespace "$name"
    before="$(kubectl -n "$name" get all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets,persistentvolumeclaims -o name | sort)"
    helm install queue-worker "$chart" -n "$name" -f "$values" >"$scratch/notes"
    grep -q "Try a retry" "$scratch/notes" || fail "$name: no notes"
    await "$name: all Pods are made and ready" available "$name"
    await "$name: the Services name the Pods" served "$name"
    pods="$(count "$name")"
    helm upgrade queue-worker "$chart" -n "$name" -f "$values" --set-string maxRetryAttempts=7 >/dev/null
    await "$name: the change is rolled out" available "$name"
    kubectl -n "$name" get deployments -o json | grep -q '"max_retry_attempts"' || fail "$name: the change did not arrive"
    helm rollback queue-worker 1 -n "$name" >/dev/null
    await "$name: the change is rolled back" available "$name"
    helm uninstall queue-worker -n "$name" --wait >/dev/null
    gone() { report "$name"; [ "$(count "$name")" = 0 ]; }
    await "$name: its Pods are gone" gone
    after="$(kubectl -n "$name" get all,configmaps,secrets,serviceaccounts,networkpolicies,poddisruptionbudgets -o name | sort)"
    diff <(echo "$before") <(echo "$after") || fail "$name: the release left something behind"
    echo "$name: $pods Pods; changed, rolled back, gone"
done

say "what the restricted standard forbids does not come up"
namespace forbidden
helm install queue-worker "$chart" -n forbidden --set securityContext.allowPrivilegeEscalation=true >/dev/null
refused() { [[ "$(available forbidden 2>&1)" == *'violates PodSecurity "restricted'* ]]; }
await "the API server refuses the Pod" refused

say "the chart can be installed"
