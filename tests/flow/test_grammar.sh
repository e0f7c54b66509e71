#!/usr/bin/env bash
# Whatever is drawn under a grammar's masks parses and validates, as the npm validator ajv judges;
# and valid documents are let through. 1,000 random schemas with the demo model's tokenizer, some
# with one of 129,280 tokens where TOLLGATE_SHARED has it.
#
#   TOLLGATE_GRAMMAR_SCHEMAS=N and TOLLGATE_GRAMMAR_SEED=N: how many, and which
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${TOLLGATE_BUILD:-$root/build}
clients=$root/build/clients
shared=${TOLLGATE_SHARED:-$root/../shared}
count=${TOLLGATE_GRAMMAR_SCHEMAS:-1000} seed=${TOLLGATE_GRAMMAR_SEED:-1}
if [ ! -d "$clients/node_modules/ajv" ]; then
    echo "skipped: tests/flow/clients.sh has not installed ajv"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Modules are looked for from the script's own folder upwards.
cp "$root"/tests/flow/grammar_*.mjs "$clients/"

check() { # TOKENIZER-DIR SCHEMAS
    node "$clients/grammar_schemas.mjs" "$2" "$seed" >"$work/schemas"
    "$build/tests/grammar_driver" "$1" 120 <"$work/schemas" >"$work/texts"
    node "$clients/grammar_check.mjs" "$work/schemas" "$work/texts"
}
check "$root/models/demo" "$count"
large=$shared/fixtures/tokenizers/deepseek-v3
if [ -d "$large" ]; then
    check "$large" $((count / 10))
else
    echo "no tokenizer of 129,280 tokens: TOLLGATE_SHARED is absent"
fi
