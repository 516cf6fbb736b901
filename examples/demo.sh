#!/usr/bin/env bash
# Shows what the worker is for, in about a minute: a call fails and backs off, the function is mended and the next retry
# completes; a second call exhausts its attempts and ends as a dead letter, which is read.
# NATS, a development gateway and the worker then stay up until Ctrl-C. DEMO_EXIT=1 or CI=true: end after the scenario.
# RELEASE=1: build and run the optimised worker. WORKER_BIN and GATEWAY_BIN: run these, and build nothing.
# A step that does not happen ends the demo with the logs and exit 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bold="" plain=""
[ -t 1 ] && bold=$'\033[1m' plain=$'\033[0m'
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
    say "The demo failed: $*" >&2
    exit 1
}
for tool in cargo curl; do
    command -v "$tool" >/dev/null || fail "it needs $tool, which is not in PATH"
done

pids=() # Newest first, which is the order in which they are stopped.
run=""
stop() {
    kill -TERM "$1" 2>/dev/null || return 0
    # The worker may drain for its 25 s of grace.
    for _ in {1..300}; do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}
finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    for pid in ${pids[@]+"${pids[@]}"}; do stop "$pid"; done 2>/dev/null # The shell's notes on who was terminated.
    if [ "$status" -eq 1 ] && [ -n "$run" ]; then
        for log in "$run"/*.log; do
            echo "==> $log"
            tail -n 200 "$log"
        done >&2
    elif [ -n "$run" ]; then
        rm -rf "$run"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# start LOG COMMAND...: in a process group of its own, so that Ctrl-C reaches this script alone, which stops them in order.
start() {
    local log="$run/$1.log"
    shift
    set -m
    "$@" >"$log" 2>&1 &
    set +m
    pids=($! ${pids[@]+"${pids[@]}"})
}
# await SECONDS WHAT COMMAND...: until the command succeeds; not longer, and not once a program has died.
await() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@"; do
        for pid in ${pids[@]+"${pids[@]}"}; do
            kill -0 "$pid" 2>/dev/null || fail "a program ended while waiting for $what"
        done
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
        sleep 0.1
    done
}
# The usual port, or one well away from it that is free.
port() {
    local candidate
    for candidate in "$1" $(seq $(($1 + 10000)) 100 $(($1 + 11000))); do
        (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || { echo "$candidate"; return; }
    done
    fail "no free port near $1"
}
answers() { curl -fsS --noproxy '*' --max-time 5 -o "$run/answer" "$1" 2>/dev/null; }
# logged COUNT CALL_ID PATTERN: whether the worker's log has that many lines on the call.
logged() { awk -v n="$1" -v id="$2" -v p="$3" 'index($0, id) && $0 ~ p { c++ } END { exit c < n }' "$run/worker.log"; }

profile=debug
flags=()
if [ "${RELEASE:-}" = 1 ]; then
    profile=release
    flags=(--release)
fi
built="${CARGO_TARGET_DIR:-target}/$profile"
worker_bin="${WORKER_BIN:-$built/queue-worker}" gateway_bin="${GATEWAY_BIN:-$built/examples/dev_gateway}"
if [ -z "${WORKER_BIN:-}" ] || [ -z "${GATEWAY_BIN:-}" ]; then
    say "Building the worker and the development gateway"
    cargo build ${flags[@]+"${flags[@]}"} --bin queue-worker --example dev_gateway || fail "it does not build"
fi
server="$(tests/nats-server.sh)" || fail "it needs a nats-server"
mkdir -p .cache/demo
run="$(mktemp -d "$PWD/.cache/demo/XXXXXX")"

nats="127.0.0.1:$(port 4222)"
gateway="localhost:$(port 8080)"
worker="localhost:$(port 8081)"
say "Starting NATS ($nats), the gateway ($gateway) and the worker ($worker)"
# A stored message is on the disk before it is acknowledged: what the worker promises holds as far as NATS keeps its word.
cat >"$run/nats.conf" <<CONF
listen: $nats
jetstream { store_dir: "$run/jetstream", sync_interval: always }
CONF
start nats "$server" -c "$run/nats.conf"
start gateway env listen="127.0.0.1:${gateway##*:}" nats_url="nats://$nats" queue_name=faas-request \
    "$gateway_bin"
await 30 "the gateway" answers "http://$gateway/healthz"

# A clean environment: settings of the shell that this runs in would be the worker's too.
worker_settings=(max_retry_attempts=5 initial_retry_wait=2s max_retry_wait=8s)
start worker env -i PATH="$PATH" NO_COLOR=1 nats_url="nats://$nats" gateway_url="http://127.0.0.1:${gateway##*:}" \
    listen_addr="127.0.0.1:${worker##*:}" "${worker_settings[@]}" \
    "$worker_bin"
# The worker writes its log as it starts, tail wants it there already.
touch "$run/worker.log"
set -m
tail -n +1 -f "$run/worker.log" > >(while IFS= read -r line; do printf 'worker | %s\n' "$line"; done) &
set +m
pids=("${pids[@]}" $!)
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

if [ "${DEMO_EXIT:-}" = 1 ] || [ "${CI:-}" = true ]; then
    say "Done."
    exit 0
fi
say "Done. All of it stays up until Ctrl-C:"
cat <<MORE
  gateway        http://$gateway  (/async-function/NAME and /function/NAME for chaos-fn, echo and headers)
  worker         http://$worker/metrics, /healthz, /readyz
  NATS           nats://$nats
  dead letters   ${read_dead[*]}
  logs           $run
MORE
trap 'exit 0' INT
while true; do
    for pid in "${pids[@]}"; do
        kill -0 "$pid" 2>/dev/null || fail "a program ended"
    done
    sleep 1
done
