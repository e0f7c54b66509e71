#!/usr/bin/env bash
# The whole test suite: installs what it needs, builds, runs everything through ctest.
#
#   tests/run.sh            all of it; ends on "N passed, N failed"
#   tests/run.sh STAGE...   some of: plain address thread fuzz
#
# plain    unit tests and flow tests on the ordinary build
# address  unit tests and flow tests with AddressSanitizer and UndefinedBehaviorSanitizer
# thread   the threaded unit tests and flow tests with ThreadSanitizer
# fuzz     every fuzz target for TOLLGATE_FUZZ_SECONDS (6) each
#
# Servers are private, on Unix sockets and free ports, and gone afterwards.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
# shellcheck source=deploy/packages.sh
. deploy/packages.sh

stages=("$@")
[ ${#stages[@]} -gt 0 ] || stages=(plain address thread fuzz)
jobs=$(nproc)
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

install_all() {
    say "installing"
    local packages=("${packages_build[@]}" "${packages_run[@]}" "${packages_test[@]}")
    # Another source than Debian may have brought node and its npm.
    command -v npm >/dev/null || packages+=(nodejs npm)
    packages_install "${packages[@]}"
}

configure_and_build() { # DIR OPTIONS...
    local dir=$1
    shift
    local launcher=()
    ! command -v ccache >/dev/null || launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    cmake -G Ninja -S . -B "$dir" -DTOLLGATE_TESTS=ON -DTOLLGATE_WERROR=ON "${launcher[@]}" "$@" >"$work/build.log" 2>&1 &&
        cmake --build "$dir" -j "$jobs" --target "${targets:-all}" >>"$work/build.log" 2>&1 || {
        grep -E 'error:|warning:|FAILED|CMake Error' -A 3 "$work/build.log" | head -n 40
        echo "building $dir failed"
        failed=$((failed + 1))
        return 1
    }
}

# Runs ctest in a build folder and adds its counts to ours.
run_ctest() { # DIR ARGS...
    local dir=$1 xml
    shift
    xml=$work/$(basename "$dir").xml
    rm -f "$xml"
    # Unit tests share one PostgreSQL and one Redis; flow tests start their own.
    bash tests/lib/servers.sh run bash -c 'cd "$0" && ctest "$@"' "$dir" \
        -j "$jobs" --timeout 300 --output-on-failure --output-junit "$xml" "$@" || true
    if [ ! -s "$xml" ]; then
        echo "ctest in $dir left no report"
        failed=$((failed + 1))
        return
    fi
    local tests failures skips
    tests=$(sed -n 's/^[[:space:]]*tests="\([0-9]*\)".*/\1/p' "$xml" | head -n 1)
    failures=$(sed -n 's/^[[:space:]]*failures="\([0-9]*\)".*/\1/p' "$xml" | head -n 1)
    skips=$(sed -n 's/^[[:space:]]*skipped="\([0-9]*\)".*/\1/p' "$xml" | head -n 1)
    passed=$((passed + tests - failures - skips))
    failed=$((failed + failures))
    skipped=$((skipped + skips))
}

stage_plain() {
    configure_and_build build || return 0
    tests/flow/clients.sh || { echo "the client libraries could not be installed"; failed=$((failed + 1)); }
    run_ctest build -L 'unit|flow'
}

stage_address() {
    configure_and_build build-address -DTOLLGATE_SANITIZE=address || return 0
    run_ctest build-address -L 'unit|sanitized'
}

stage_thread() {
    targets=threaded configure_and_build build-thread -DTOLLGATE_SANITIZE=thread || return 0
    run_ctest build-thread -L 'threads'
}

stage_fuzz() {
    targets=fuzzers configure_and_build build-fuzz -DTOLLGATE_FUZZ=ON -DCMAKE_C_COMPILER=clang-14 || return 0
    tests/fuzz/run.sh build-fuzz "${TOLLGATE_FUZZ_SECONDS:-6}" "$work/fuzz.txt" || true
    local ok bad
    ok=$(grep -c '^ok ' "$work/fuzz.txt" || true)
    bad=$(grep -c '^failed ' "$work/fuzz.txt" || true)
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ $((ok + bad)) = 0 ]; then
        failed=$((failed + 1))
    fi
}

install_all
for stage in "${stages[@]}"; do
    case $stage in
        plain | address | thread | fuzz) ;;
        *) echo "unknown stage '$stage': plain, address, thread, fuzz" >&2; exit 2 ;;
    esac
    say "$stage"
    "stage_$stage"
done
say "done"
[ "$skipped" = 0 ] || echo "$skipped skipped (what they lack is said above, and in each build's Testing/Temporary/LastTest.log)"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
