#!/usr/bin/env bash
# What a token mask costs, by schema: bench/grammar.sh [DIR]
#
# DIR has a tokenizer.json; without it, the one of 129,280 tokens in
# $TOLLGATE_SHARED/fixtures/tokenizers/deepseek-v3. Nothing else should run meanwhile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${BUILD:-build}
[ -f "$build/CMakeCache.txt" ] || cmake -S . -B "$build" >/dev/null
cmake --build "$build" --target bench-grammar >/dev/null
"$build/bench/bench-grammar" "${1:-${TOLLGATE_SHARED:-../shared}/fixtures/tokenizers/deepseek-v3}"
