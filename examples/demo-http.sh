#!/usr/bin/env bash
# Shows the worker without OpenFaaS, in about half a minute: a message of JetStream becomes a POST to a service that fails; the
# service is mended and the next retry completes; what it refuses is a dead letter, which is read and sent round again.
# NATS, the service and the worker then stay up until Ctrl-C. DEMO_EXIT=1 or CI=true: end after the scenario.
# RELEASE=1: build and run the optimised worker. WORKER_BIN: run this one, and build nothing.
# A step that does not happen ends the demo with the logs and exit 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. examples/parts.sh
need cargo curl python3

worker_bin="${WORKER_BIN:-$built/queue-worker}"
if [ -z "${WORKER_BIN:-}" ]; then
    say "Building the worker"
    cargo build ${flags[@]+"${flags[@]}"} --bin queue-worker || fail "it does not build"
fi
prepare

nats="127.0.0.1:$(port 4222)"
shop="127.0.0.1:$(port 9000)"
worker="localhost:$(port 8081)"
say "Starting NATS ($nats), a service ($shop) and the worker ($worker)"
start_nats
answer_with() { echo "$1" >"$run/status"; }
answer_with 500
start shop python3 examples/shop.py "${shop##*:}" "$run/status"
await 30 "the service" answers "http://$shop/"

# A clean environment: settings of the shell that this runs in would be the worker's too.
settings=(nats_url="nats://$nats" queue_name=orders nats_filter_subject='orders.*.created' input=http
    target_url="http://$shop/hooks/{1}")
start worker env -i PATH="$PATH" NO_COLOR=1 listen_addr="127.0.0.1:${worker##*:}" initial_retry_wait=2s "${settings[@]}" \
    "$worker_bin"
follow_worker
await 30 "the worker to be ready" answers "http://$worker/readyz"
printf 'The worker runs with these settings, and initial_retry_wait=2s to be done soon:\n'
printf '  %s\n' "${settings[@]}"

# What the nats command does: publishes, and awaits that the server has it.
pub() {
    say "\$ nats pub $1 '$2'"
    exec 3<>"/dev/tcp/${nats%:*}/${nats##*:}"
    printf 'CONNECT {"verbose":false}\r\nPUB %s %d\r\n%s\r\nPING\r\n' "$1" "${#2}" "$2" >&3
    local line
    while IFS= read -r -t 10 line <&3; do [ "$line" != $'PONG\r' ] || break; done
    exec 3>&-
    [ "${line:-}" = $'PONG\r' ] || fail "NATS did not answer"
}
# ours COMMAND…: a command of the program, with the settings of the worker.
ours() {
    say "\$ queue-worker $*"
    env -i PATH="$PATH" NO_COLOR=1 "${settings[@]}" "$worker_bin" "$@"
}
# told COUNT PATTERN: whether the service got so many such requests.
told() { [ "$(grep -c -- "$2" "$run/shop.log")" -ge "$1" ]; }

say "1. A message is published; the service answers 500"
pub orders.eu.created '{"id":1}'
await 30 "two failed attempts" told 2 'POST /hooks/eu {"id":1} .*-> 500'
say "2. The service is mended: the next retry completes"
answer_with 200
await 30 "the message to complete" told 1 'POST /hooks/eu {"id":1} .*-> 200'
say "3. What it refuses is a dead letter at once"
answer_with 400
pub orders.us.created '{"id":2}'
await 30 "the dead letter" logged 1 function=us "Dead letter"
ours dead-letters list || fail "the dead letters cannot be read"
say "4. It is mended once more, and the dead letter is sent round again"
answer_with 200
ours dead-letters redrive --all --yes || fail "the dead letter cannot be sent round again"
await 30 "the message to complete" told 1 'POST /hooks/us {"id":2} .*-> 200'
say "All that the service was sent:"
cat "$run/shop.log"

stay "  publish        nats pub -s nats://$nats orders.eu.created '{\"id\":3}'
  the service    answers with the status in $run/status
  worker         http://$worker/metrics, /healthz, /readyz
  dead letters   ${settings[*]} $worker_bin dead-letters list
  logs           $run"
