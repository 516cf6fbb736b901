#!/usr/bin/env bash
# Prints the path of a nats-server of at least 2.14 on stdout, and everything else on stderr, so that
# NATS_SERVER=$(tests/nats-server.sh) works. With the argument 2.9 it is one of that line, which knows no message schedules.
# It takes the first of: $NATS_SERVER ($NATS_SERVER_OLD), the nats-server in PATH, an earlier copy in .cache/, one built
# with go, one from Debian's package. Nothing is installed outside .cache/.
set -euo pipefail

cache="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache"

# What is named, what go builds, where Debian has it, where a copy is kept, and what it is called.
case "${1:-}" in
"") variable=NATS_SERVER version=v2.15.2 suite=forky copy="$cache/nats-server" wanted="2.14 or newer" ;;
2.9) variable=NATS_SERVER_OLD version=v2.9.10 suite=bookworm copy="$cache/nats-server-2.9" wanted="2.9" ;;
*)
    echo "usage: nats-server.sh [2.9]" >&2
    exit 64
    ;;
esac

# Whatever a tool prints must not end up in the caller's variable: from here on stdout is stderr, and fd 3 is the answer.
exec 3>&1 1>&2

say() { echo "nats-server.sh: $*"; }

# What is fetched from Debian.
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

# Whether version $1 (like "v2.15.2" or "1.24") is $2 (like "2.14") or newer.
at_least() {
    local have="${1#v}"
    [[ "$have" =~ ^[0-9]+\.[0-9]+ ]] && [ "$(printf '%s\n%s\n' "$2" "$have" | sort -V | head -n 1)" = "$2" ]
}

# "nats-server: v2.15.2" becomes "v2.15.2"; nothing where it does not run.
version_of() { "$1" --version 2>/dev/null | sed -n 's/^nats-server: *//p' || true; }

fits() {
    [ -x "$1" ] || return 1
    if [ "$wanted" = 2.9 ]; then
        [[ "$(version_of "$1")" == v2.9.* ]]
    else
        at_least "$(version_of "$1")" 2.14
    fi
}

answer() {
    echo "$1" >&3
    exit 0
}

# A rename within one folder is atomic: another caller sees no copy or a whole one, and a running copy is not written into.
keep() {
    chmod 755 "$1"
    if ! fits "$1"; then
        say "what was fetched is no nats-server $wanted that runs here: '$(version_of "$1")'"
        return 1
    fi
    mv -f "$1" "$copy"
}

with_go() {
    local have
    have="$(go env GOVERSION 2>/dev/null)" || return 1
    at_least "${have#go}" 1.24 || { say "$have is older than 1.24"; return 1; }
    say "building nats-server $version with $have, once"
    # GOOS and GOARCH may be set for something else, and go refuses GOBIN then.
    env -u GOOS -u GOARCH GOBIN="$scratch" go install "github.com/nats-io/nats-server/v2@$version" || return 1
    keep "$scratch/nats-server"
}

with_apt() {
    local mirror ring keys=""
    has_debian || return 1
    # The mirror this machine already uses; security updates live in a folder of another name.
    mirror="$(apt-get indextargets --no-release-info --format '$(REPO_URI)' | grep -m 1 -E '/debian/?$')" ||
        { say "apt here knows no Debian mirror"; return 1; }
    for ring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        [ -r "$ring" ] && keys="[signed-by=$ring] "
    done
    say "downloading nats-server from Debian $suite ($mirror), once"
    echo "deb $keys$mirror $suite main" >"$scratch/sources.list"
    debian nats-server -o Dir::Etc::sourcelist="$scratch/sources.list" -o Dir::Etc::sourceparts=/nonexistent || return 1
    keep "$(find "$scratch/unpacked" -type f -name nats-server -perm -u+x | head -n 1)"
}

named="${!variable:-}"
if [ -n "$named" ]; then
    found="$(command -v "$named" || true)"
    fits "$found" && answer "$found"
    say "$variable is '$named', which is no nats-server $wanted: '$(version_of "$named")'"
    exit 1
fi

found="$(command -v nats-server || true)"
fits "$found" && answer "$found"
fits "$copy" && answer "$copy"

mkdir -p "$cache"
# The lock only saves a second caller the work; where there is no flock, the rename alone keeps callers apart.
if command -v flock >/dev/null; then
    exec 9>"$copy.lock"
    flock 9
    fits "$copy" && answer "$copy"
fi
scratch="$(mktemp -d "$cache/nats-server.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT

with_go && answer "$copy"
with_apt && answer "$copy"

say "no nats-server $wanted here. Put one in PATH or name it in $variable;" \
    "or install go 1.24 or newer, or run on Debian with a mirror that has $suite, and this script fetches one."
exit 1
