# Sourced by the scripts that fetch a program: unpacks a package of Debian's without installing it. Needs $scratch and say.

# debian PACKAGE [OPTION...]: what is in the package is in $scratch/unpacked afterwards; the options are apt-get's.
debian() {
    local package="$1"
    shift
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
    chmod 755 "$scratch"
    # With lists of its own, so that nothing of the machine's changes, and as oneself: apt's own user may not enter a folder in
    # somebody's home.
    local apt=(apt-get -q "$@" -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o APT::Sandbox::User="$(id -un)" -o APT::Update::Error-Mode=any)
    "${apt[@]}" update || return 1
    (cd "$scratch" && "${apt[@]}" download "$package" && dpkg -x "${package}"_*.deb unpacked)
}

# Whether there is what debian needs.
has_debian() {
    local tool
    for tool in apt-get dpkg; do
        command -v "$tool" >/dev/null || { say "no $tool"; return 1; }
    done
}
