#!/usr/bin/env bash
# Admission alone: requests admitted and settled a second, and the time the Redis server spends on
# each, beside an INCR, on a redis-server of its own. Builds what it needs.
#
#   bench/admission.sh [CALLS]      50000 calls a line unless said otherwise
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
[ -f "$build/CMakeCache.txt" ] || cmake -S . -B "$build" >/dev/null
cmake --build "$build" --target bench_admission -j2 >/dev/null 2>&1

. tests/lib/servers.sh
dir=$(mktemp -d /tmp/tollgate-bench.XXXXXX)
trap 'servers_redis_stop; rm -rf "$dir"' EXIT
servers_redis_start "$dir"

echo "admission against $(redis-server --version | cut -d' ' -f1-3), $(nproc) cores, commit $(git rev-parse --short HEAD 2>/dev/null || echo none)"
echo "one call = one request admitted and settled; wave = requests under way at once"
"$build/bin/bench_admission" "$SERVERS_REDIS_URL" "${1:-50000}"
