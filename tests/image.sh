#!/usr/bin/env bash
# Tests the image without Docker: builds its root file system and runs the worker in it as a container engine would, with
# the tests of the worker's life, drain, callbacks and place in charts, as the users and under the names that charts choose.
# It needs root's rights, the musl target of Rust, openssl, curl and a nats-server, which NATS_SERVER names or it finds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '\n%s\n' "$*"; }
fail() {
    say "The image failed: $*" >&2
    [ ! -e "$run/log" ] || tail -n 50 "$run/log" >&2
    exit 1
}
mkdir -p .cache/image
run="$(mktemp -d "$PWD/.cache/image/XXXXXX")"
finish() {
    for pid in $(jobs -p); do kill -KILL "$pid" || true; done
    wait
    rm -rf "$run"
}
trap 'finish 2>/dev/null' EXIT
# await SECONDS WHAT COMMAND...
await() {
    local deadline=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited in vain for $what"
        sleep 0.1
    done
}
logged() { grep -qF "$1" "$run/log"; }

[ "$(id -u)" = 0 ] || fail "entering another root file system needs root's rights: sudo make image-test"
NATS_SERVER="$(tests/nats-server.sh)" || fail "it needs a nats-server"
export NATS_SERVER

say "1. What is in it"
.image/build "$run/worker"
.image/build "$run/gateway" gateway
expected="/etc/ssl/certs/ca-certificates.crt /usr/bin/jetstream-queue-worker /usr/bin/queue-worker /worker"
files="$(find "$run/worker" ! -type d -printf '/%P\n' | sort | paste -sd ' ')"
[ "$files" = "$expected" ] || fail "it has $files"
du -sh "$run/worker"

# program NAME FOLDER UID COMMAND...: a program of this machine that is the command in the image, for whoever takes programs.
program() {
    local file="$run/$1"
    shift
    { echo "#!/usr/bin/env bash" && printf 'exec %q' "$PWD/.image/enter" && printf ' %q' "$@" && echo ' "$@"'; } >"$file"
    chmod +x "$file"
}
program as-10001 "$run/worker" 10001 /worker -license-file=/x -pprof=true
program as-65532 "$run/worker" 65532 jetstream-queue-worker -license-file=/x
program dev-gateway "$run/gateway" 65532 dev_gateway

say "2. The first process of its container, which no signal reaches that it does not ask for"
# What is sent to unshare would not reach the worker, which is its child.
listen_addr=127.0.0.1:0 nats_url=nats://127.0.0.1:1 unshare --pid --fork --kill-child "$run/as-10001" 2>"$run/log" &
await 30 "the worker to start" logged "waiting for it"
kill -TERM "$(cat "/proc/$!/task/$!/children")"
wait "$!" || fail "exit code $? after SIGTERM"

say "3. Names of hosts, and TLS with the authorities that the image trusts"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=nats.example \
    -addext subjectAltName=DNS:nats.example -addext basicConstraints=critical,CA:FALSE \
    -keyout "$run/key.pem" -out "$run/certificate.pem" 2>/dev/null
cat >"$run/nats.conf" <<CONF
port: -1
ports_file_dir: "$run"
jetstream { store_dir: "$run/jetstream" }
tls { cert_file: "$run/certificate.pem", key_file: "$run/key.pem" }
CONF
"$NATS_SERVER" -c "$run/nats.conf" 2>"$run/nats.log" &
await 30 "NATS" test -e "$run/nats-server_$!.ports"
port="$(grep -o '127\.0\.0\.1:[0-9]*\|0\.0\.0\.0:[0-9]*' "$run/nats-server_$!.ports" | head -n 1)"
echo "127.0.0.1 localhost nats.example" >"$run/hosts"
# secure FOLDER: the worker in that root file system, connecting by a name that only /etc/hosts knows.
secure() {
    env -i PATH="$PATH" listen_addr=127.0.0.1:0 nats_url="tls://nats.example:${port##*:}" \
        unshare --mount bash -c 'mount --bind "$1" /etc/hosts && shift && exec "$@"' bash "$run/hosts" \
        .image/enter "$1" 10001 /worker 2>"$run/log" &
}
secure "$run/worker"
if wait "$!" || ! logged "invalid peer certificate"; then fail "it takes a certificate that nobody vouches for"; fi
cp -a "$run/worker" "$run/trusting"
cat "$run/certificate.pem" >>"$run/trusting/etc/ssl/certs/ca-certificates.crt"
secure "$run/trusting"
await 30 "a connection by TLS" logged "connected to NATS"
kill -TERM "$!"
wait "$!" || fail "exit code $? after SIGTERM"

for program in as-10001 as-65532; do
    say "4. The worker's own tests, $program"
    WORKER_BIN="$run/$program" cargo test --all-features --test it -- life:: drain:: callbacks:: charts::in_the --skip token
done

say "5. The demonstration, with the gateway's image too"
WORKER_BIN="$run/as-10001" GATEWAY_BIN="$run/dev-gateway" DEMO_EXIT=1 examples/demo.sh
say "The image is sound."
