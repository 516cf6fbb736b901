#!/usr/bin/env bash
# Prints the path of the worker of a commit on stdout, and everything else on stderr, so that
# OLD_WORKER_BIN=$(tests/worker.sh v0.1.0) works. It is built in target/before/, once for each commit; the
# crates that commits have in common are compiled once for all.
set -euo pipefail

[ $# = 1 ] || { echo "usage: worker.sh COMMIT" >&2; exit 64; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
commit="$(git rev-parse --verify --quiet "$1^{commit}")" ||
    { echo "worker.sh: no commit '$1' here; a shallow clone wants git fetch --unshallow --tags" >&2; exit 1; }
before="$PWD/target/before"
worker="$before/$commit/queue-worker"

if [ ! -x "$worker" ]; then
    source="$before/$commit/source"
    rm -rf "$source"
    mkdir -p "$source"
    git archive "$commit" | tar -x -C "$source"
    # All features, as in the image. Nobody debugs it.
    CARGO_TARGET_DIR="$before/build" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo build --manifest-path "$source/Cargo.toml" --locked --all-features --bin queue-worker >&2
    # A rename is atomic: a build that was cut off leaves no half of a worker.
    cp "$before/build/debug/queue-worker" "$worker.new"
    mv "$worker.new" "$worker"
fi
echo "$worker"
