#!/usr/bin/env bash
# How fast the engine runs a model, beside what this machine can do and beside llama.cpp.
#
#   bench/engine.sh [MODEL_DIR...]
#
# Without a folder: the two shapes of $TOLLGATE_SHARED/fixtures/shapes, with random weights, made
# once in build/models (13 GB). Prints, for each model, weight type and case, the median of
# BENCH_ROUNDS (3) rounds: tokens/s, the share of the machine's limit, and, when
# TOLLGATE_LLAMA_BIN names a folder with llama-bench and llama-batched-bench and the model's
# folder holds bf16.gguf, q8_0.gguf and q4_0.gguf, llama.cpp's tokens/s and the ratio to it. Both
# run in turns, so that what else the machine does meets both.
#
# BENCH_TYPES (bf16 int8 int4), BENCH_CASES (prefill decode batch), BENCH_KV (bf16) and
# BENCH_THREADS (all processors) choose what is measured. Nothing else should run meanwhile.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
rounds=${BENCH_ROUNDS:-3}
types=${BENCH_TYPES:-bf16 int8 int4}
cases=${BENCH_CASES:-prefill decode batch}
kv=${BENCH_KV:-bf16}
threads=${BENCH_THREADS:-$(nproc)}
llama=${TOLLGATE_LLAMA_BIN:-}
worker=build/bin/tollgate-worker

[ -f build/CMakeCache.txt ] || cmake -S . -B build >/dev/null
cmake --build build --target tollgate-worker make-model >/dev/null

make_models() {
    local shapes=${TOLLGATE_SHARED:-../shared}/fixtures/shapes name
    for name in deepseek-1b qwen2-1.5b; do
        if [ ! -f "build/models/$name/q4_0.gguf" ]; then
            mkdir -p build/models
            build/tests/make-model "$shapes/$name.json" "build/models/$name" bf16 q8_0 q4_0 >/dev/null
        fi
        echo "build/models/$name"
    done
}

# "tokens/s limit bound-by" of one case of ours.
ours() { # DIR TYPE CASE
    local how=(--activations bf16 --large-pages) # as llama.cpp rounds; the fastest we have
    [ "$2" = bf16 ] || how=(--quantize "$2")
    "$worker" --model "$1" --bench --only "$3" --kv "$kv" --threads "$threads" "${how[@]}" |
        awk '/^(prefill|decode)/ { split(substr($0, 23), f, " "); print f[1], f[2], f[3] }'
}

# tokens/s of the same case of llama.cpp.
theirs() { # DIR TYPE CASE
    local type=q8_0 sequences=1 made=32
    [ "$2" = bf16 ] && type=bf16
    [ "$2" = int4 ] && type=q4_0
    if [ "$3" = prefill ]; then
        "$llama/llama-bench" -m "$1/$type.gguf" -t "$threads" -p 512 -n 0 -r 1 -o csv 2>/dev/null |
            awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "avg_ts") at = i }
                NR == 2 { gsub(/"/, "", $at); print $at }'
        return
    fi
    [ "$3" = batch ] && sequences=16 made=16
    "$llama/llama-batched-bench" -m "$1/$type.gguf" -t "$threads" -c 4096 -b 2048 -npp 64 \
        -ntg "$made" -npl "$sequences" 2>/dev/null | awk -F'|' '/^\| +64 / { print $9 + 0 }'
}

median() { sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

# Files that fell out of the page cache would be read from the disk, in somebody's time.
warm() { # DIR TYPE
    local type=q8_0
    [ "$2" = bf16 ] && type=bf16
    [ "$2" = int4 ] && type=q4_0
    cat "$1"/*.safetensors >/dev/null
    [ -z "$llama" ] || [ ! -f "$1/$type.gguf" ] || cat "$1/$type.gguf" >/dev/null
}

measure() { # DIR TYPE CASE: a line of the table
    local mine=() limits=() other=() beside=- ratio=- bound round line
    for ((round = 0; round < rounds; round++)); do
        line=$(ours "$1" "$2" "$3")
        set -- "$1" "$2" "$3" $line
        mine+=("$4") limits+=("$5") bound=$6
        set -- "$1" "$2" "$3"
        if [ -n "$llama" ] && [ -f "$1/q4_0.gguf" ]; then
            other+=("$(theirs "$1" "$2" "$3")")
        fi
    done
    local speed limit
    speed=$(printf '%s\n' "${mine[@]}" | median)
    limit=$(printf '%s\n' "${limits[@]}" | median)
    if [ ${#other[@]} -gt 0 ]; then
        beside=$(printf '%s\n' "${other[@]}" | median)
        ratio=$(awk -v a="$speed" -v b="$beside" 'BEGIN { printf "%.2f", a / b }')
    fi
    awk -v m="$(basename "$1")" -v t="$2" -v c="$3" -v s="$speed" -v l="$limit" -v b="$bound" \
        -v o="$beside" -v r="$ratio" 'BEGIN {
            printf "| %s | %s | %s | %.1f | %.1f (%s) | %.0f %% | %s | %s |\n", m, t, c, s, l, b,
                100 * s / l, o == "-" ? o : sprintf("%.1f", o), r }'
}

[ $# -gt 0 ] || set -- $(make_models)
echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | xargs), $threads threads, $(date -u +%F)"
"$worker" --model "$1" --check | grep '^machine'
printf '\n| model | weights | case | tokens/s | limit | share | llama.cpp | ratio |\n'
echo '|---|---|---|---|---|---|---|---|'
for dir in "$@"; do
    for type in $types; do
        warm "$dir" "$type"
        for case in $cases; do
            measure "$dir" "$type" "$case"
        done
    done
done
