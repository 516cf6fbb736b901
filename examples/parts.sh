# What the demos have in common: programs in the background that are stopped in order, and patience. To be sourced, in the root of
# the repository.

bold="" plain=""
[ -t 1 ] && bold=$'\033[1m' plain=$'\033[0m'
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
    say "The demo failed: $*" >&2
    exit 1
}
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fail "it needs $tool, which is not in PATH"
    done
}

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

# prepare: the server is found before anything starts; what is written goes into a folder of its own.
prepare() {
    server="$(tests/nats-server.sh)" || fail "it needs a nats-server"
    mkdir -p .cache/demo
    run="$(mktemp -d "$PWD/.cache/demo/XXXXXX")"
}
# A stored message is on the disk before it is acknowledged: what the worker promises holds as far as NATS keeps its word.
start_nats() {
    cat >"$run/nats.conf" <<CONF
listen: $nats
jetstream { store_dir: "$run/jetstream", sync_interval: always }
CONF
    start nats "$server" -c "$run/nats.conf"
}
# Shows the worker's log as it is written. The worker writes it as it starts, tail wants it there already.
follow_worker() {
    touch "$run/worker.log"
    set -m
    tail -n +1 -f "$run/worker.log" > >(while IFS= read -r line; do printf 'worker | %s\n' "$line"; done) &
    set +m
    pids=("${pids[@]}" $!)
}
# stay TEXT: until Ctrl-C, unless nobody is there.
stay() {
    if [ "${DEMO_EXIT:-}" = 1 ] || [ "${CI:-}" = true ]; then
        say "Done."
        exit 0
    fi
    say "Done. All of it stays up until Ctrl-C:"
    printf '%s\n' "$1"
    trap 'exit 0' INT
    while true; do
        for pid in "${pids[@]}"; do
            kill -0 "$pid" 2>/dev/null || fail "a program ended"
        done
        sleep 1
    done
}
