#!/usr/bin/env bash
# Runs every fuzz target of a clang build: tests/fuzz/run.sh BUILD_DIR SECONDS_EACH [RESULTS]
#
# An hour each:  tests/run.sh's build, then  tests/fuzz/run.sh build-fuzz 3600
# Two at a time. New inputs are kept in BUILD_DIR/corpus; a crash leaves its input there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$1" && pwd)
seconds=$2
results=${3:-$build/fuzz-results.txt}
: >"$results"

one() { # TARGET
    local name work
    name=$(basename "$1")
    work=$build/corpus/$name
    mkdir -p "$work" "$here/corpus/$name"
    if (cd "$work/.." && "$1" "$work" "$here/corpus/$name" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$build/corpus/$name-") >"$build/$name.log" 2>&1; then
        echo "ok $name $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log") runs" >>"$results"
    else
        echo "failed $name" >>"$results"
        tail -n 40 "$build/$name.log"
    fi
}

running=0
for target in "$build"/tests/fuzz_*; do
    [ -x "$target" ] && [ ! -d "$target" ] || continue
    one "$target" &
    running=$((running + 1))
    if [ "$running" -ge 2 ]; then
        wait -n || true
        running=$((running - 1))
    fi
done
wait
sort "$results"
! grep -q '^failed ' "$results"
