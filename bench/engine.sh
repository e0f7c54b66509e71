#!/usr/bin/env bash
# How fast the engine runs the demo model (or another), beside what this machine can do.
#
#   bench/engine.sh [MODEL_DIR [THREADS [KERNELS]]]
#
# Prints a table; nothing else should run on the machine meanwhile.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
model=${1:-models/demo}
[ $# -eq 0 ] || shift
cmake -S . -B build >/dev/null
cmake --build build --target bench-engine >/dev/null
echo "$(uname -m), $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | xargs), $(nproc) processors, $(date -u +%F)"
echo "bench/engine.sh $model $*"
exec build/bench/bench-engine "$model" "$@"
