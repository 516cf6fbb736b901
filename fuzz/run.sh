#!/usr/bin/env bash
# Fuzzes each target for some minutes, JOBS (2) at a time, and ends with an error where one of them finds something.
# usage: fuzz/run.sh MINUTES [TARGET...]
#
# libFuzzer needs no nightly compiler: the counters of coverage are a matter of code generation, which the stable one can be told.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=$(awk -v minutes="${1:?usage: fuzz/run.sh MINUTES [TARGET...]}" 'BEGIN { printf "%d", minutes * 60 }')
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls corpus)

host="$(rustc -vV | sed -n 's/^host: //p')"
out="${CARGO_TARGET_DIR:-target}"
level='-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
tables='-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares'
# What is fuzzed is built of the same crates as the program.
cp ../Cargo.lock .
# With a target named, these do not reach the scripts and macros that run while it is built.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module $level $tables" cargo build --quiet --release --target "$host"

mkdir -p "$out/findings" "$out/grown"
fuzz() {
	local target=$1 log="$out/findings/$1.log"
	mkdir -p "$out/grown/$target"
	# What is found beyond the corpus stays in the build folder, and is where the next run begins.
	if "$out/$host/release/$target" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$out/findings/$target-" "$out/grown/$target" "corpus/$target" >"$log" 2>&1; then
		awk -v target="$target" '
			/DONE/ { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
			/number_of_executed_units/ { runs = $2 } /peak_rss_mb/ { rss = $2 }
			END { printf "%-12s %12d runs, %5d edges, %6d features, corpus %s, %4d MiB: nothing found\n", target, runs, cov, ft, corp, rss }' "$log"
	else
		echo "$target: found something; see $log" >&2
		tail -n 20 "$log" >&2
		return 1
	fi
}

failed=0
running=0
for target in "${targets[@]}"; do
	if [ "$running" -ge "${JOBS:-2}" ]; then
		wait -n || failed=1
		running=$((running - 1))
	fi
	fuzz "$target" &
	running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
	wait -n || failed=1
	running=$((running - 1))
done
exit "$failed"
