#!/usr/bin/env bash
# Shows what the worker is for, in about a minute: a call fails and backs off, the function is mended and the next retry
# completes; a second call exhausts its attempts and ends as a dead letter, which is read.
# NATS, a development gateway and the worker then stay up until Ctrl-C. DEMO_EXIT=1 or CI=true: end after the scenario.
# RELEASE=1: build and run the optimised worker. WORKER_BIN and GATEWAY_BIN: run these, and build nothing.
# A step that does not happen ends the demo with the logs and exit 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. examples/parts.sh
need cargo curl

worker_bin="${WORKER_BIN:-$built/queue-worker}" gateway_bin="${GATEWAY_BIN:-$built/examples/dev_gateway}"
if [ -z "${WORKER_BIN:-}" ] || [ -z "${GATEWAY_BIN:-}" ]; then
    say "Building the worker and the development gateway"
    cargo build ${flags[@]+"${flags[@]}"} --bin queue-worker --example dev_gateway || fail "it does not build"
fi
prepare

nats="127.0.0.1:$(port 4222)"
gateway="localhost:$(port 8080)"
worker="localhost:$(port 8081)"
say "Starting NATS ($nats), the gateway ($gateway) and the worker ($worker)"
start_nats
start gateway env listen="127.0.0.1:${gateway##*:}" nats_url="nats://$nats" queue_name=faas-request \
    "$gateway_bin"
await 30 "the gateway" answers "http://$gateway/healthz"

# A clean environment: settings of the shell that this runs in would be the worker's too.
worker_settings=(max_retry_attempts=5 initial_retry_wait=2s max_retry_wait=8s)
start worker env -i PATH="$PATH" NO_COLOR=1 nats_url="nats://$nats" gateway_url="http://127.0.0.1:${gateway##*:}" \
    listen_addr="127.0.0.1:${worker##*:}" "${worker_settings[@]}" \
    "$worker_bin"
follow_worker
await 30 "the worker to be ready" answers "http://$worker/readyz"
echo "The worker runs with ${worker_settings[*]}, to be done in a minute; its defaults are 10, 10s and 120s."

# Shows a curl command, runs it, and leaves the answer in $answer; anything but a 202 ends the demo.
play() {
    local shown="" word
    for word in "$@"; do
        case "$word" in *[!A-Za-z0-9:/.-]* | "") word="'$word'" ;; esac
        shown+=" $word"
    done
    say "\$ curl -i$shown"
    answer="$(curl -isS --noproxy '*' --max-time 10 "$@" | tr -d '\r')"
    printf '%s\n' "$answer"
    case "$answer" in "HTTP/1.1 202 "*) ;; *) fail "that should have been a 202" ;; esac
}
fail_from_now_on() {
    play "$gateway/function/chaos-fn/set" --data-binary '
{	"status": 500,
	"delay": "1s",
    "body": "1 second delay, then 500"}
' --header "Content-type: application/json"
}
invoke() {
    play "$gateway/async-function/chaos-fn" -d ""
    call_id="$(printf '%s\n' "$answer" | awk 'tolower($1) == "x-call-id:" { print $2 }')"
    [ -n "$call_id" ] || fail "the gateway gave no call id"
}

say "1. The function starts to fail"
fail_from_now_on
say "2. It is invoked asynchronously: the caller has its 202, the worker has the trouble"
invoke
await 30 "two failed attempts of $call_id" logged 2 "$call_id" "Retry scheduled"
say "3. The function is mended: the next retry completes"
play "$gateway/function/chaos-fn/set" --data-binary '
{"status": 200,
	"delay": "1ms",
    "body": "1ms second delay, then 200"}
' --header "Content-type: application/json"
await 30 "$call_id to complete" logged 1 "$call_id" 'Invoked.*status"?[=:] *"?200'
say "4. It fails again, and nobody mends it: five attempts, then a dead letter"
fail_from_now_on
invoke
await 90 "the dead letter of $call_id" logged 1 "$call_id" "Dead letter"
say "5. Nothing is lost: the dead letter in the stream faas-request-dead, headers and payload"
read_dead=(env nats_url="nats://$nats" "$gateway_bin" dead-letters)
"${read_dead[@]}" >"$run/dead-letters" || fail "the dead letters cannot be read"
cat "$run/dead-letters"
grep -qF "$call_id" "$run/dead-letters" || fail "the dead letter of $call_id is not in its stream"

stay "  gateway        http://$gateway  (/async-function/NAME and /function/NAME for chaos-fn, echo and headers)
  worker         http://$worker/metrics, /healthz, /readyz
  NATS           nats://$nats
  dead letters   ${read_dead[*]}
  logs           $run"
