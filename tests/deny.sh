#!/usr/bin/env bash
# Checks what is built in against .deny.toml: tests/deny.sh [CHECK...], where a check is bans, licenses, sources or advisories, and
# the first three are those that need no network. It takes the cargo-deny in PATH, else an earlier copy in .cache/, else builds one,
# once: without optimizations, because it runs for seconds and builds for minutes. Nothing is installed outside .cache/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
copy=".cache/cargo-deny-$version"

if command -v cargo-deny >/dev/null; then
    deny=cargo-deny
else
    deny="$copy/bin/cargo-deny"
    if ! [ -x "$deny" ]; then
        echo "deny.sh: building cargo-deny $version, once" >&2
        mkdir -p .cache
        export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG=0
        CARGO_TARGET_DIR="$copy/target" cargo install --quiet --debug --locked --root "$copy" --version "=$version" cargo-deny
        rm -rf "$copy/target"
    fi
fi

[ $# -gt 0 ] || set -- bans licenses sources
exec "$deny" --all-features check "$@"
