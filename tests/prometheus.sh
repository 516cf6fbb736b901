#!/usr/bin/env bash
# Prints the path of a prometheus of at least 2.40, with promtool beside it, on stdout, and everything else on stderr, so that
# PROMETHEUS=$(tests/prometheus.sh) works. It takes the first of: $PROMETHEUS, the one in PATH, an earlier copy in .cache/, one
# from Debian's package. Nothing is installed outside .cache/.
set -euo pipefail

least="2.40" # What the tests were written against is 2.42, Debian's.

cache="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache"
copy="$cache/prometheus"

# Whatever a tool prints must not end up in the caller's variable: from here on stdout is stderr, and fd 3 is the answer.
exec 3>&1 1>&2

say() { echo "prometheus.sh: $*"; }

# What is fetched from Debian.
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

# "prometheus, version 2.42.0+ds (branch: …" becomes "2.42.0"; nothing where it does not run.
version_of() { "$1" --version 2>&1 | sed -n 's/^prom[a-z]*, version \([0-9.]*\).*/\1/p' || true; }

at_least() { [ "$(printf '%s\n%s\n' "$least" "$1" | sort -V | head -n 1)" = "$least" ]; }

# Whether $1 is a prometheus that is new enough and has its promtool.
is_whole() {
    local have
    [ -x "$1" ] && [ -x "$(dirname "$1")/promtool" ] && have="$(version_of "$1")" && [ -n "$have" ] && at_least "$have"
}

answer() {
    echo "$1" >&3
    exit 0
}

with_apt() {
    has_debian || return 1
    say "downloading prometheus from Debian, once"
    debian prometheus || return 1
    if ! is_whole "$scratch/unpacked/usr/bin/prometheus"; then
        say "Debian's is no prometheus of $least or newer that runs here: '$(version_of "$scratch/unpacked/usr/bin/prometheus")'"
        return 1
    fi
    # A rename within one folder is atomic: another caller sees no copy or a whole one.
    rm -rf "$copy" && mv "$scratch/unpacked/usr/bin" "$copy"
}

if [ -n "${PROMETHEUS:-}" ]; then
    found="$(command -v "$PROMETHEUS" || true)"
    is_whole "$found" && answer "$found"
    say "PROMETHEUS is '$PROMETHEUS', which is no prometheus of $least or newer with promtool beside it: '$(version_of "$PROMETHEUS")'"
    exit 1
fi

found="$(command -v prometheus || true)"
is_whole "$found" && answer "$found"
is_whole "$copy/prometheus" && answer "$copy/prometheus"

mkdir -p "$cache"
# The lock only saves a second caller the work; where there is no flock, the rename alone keeps callers apart.
if command -v flock >/dev/null; then
    exec 9>"$cache/prometheus.lock"
    flock 9
    is_whole "$copy/prometheus" && answer "$copy/prometheus"
fi
scratch="$(mktemp -d "$cache/prometheus.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT

with_apt && answer "$copy/prometheus"

say "no prometheus of $least or newer here. Put it and its promtool in PATH, or name it in PROMETHEUS;" \
    "or run on Debian, and this script fetches one."
exit 1
