# Debian and Ubuntu packages, in one place. Sourced by deploy/quickstart.sh and tests/run.sh.
# shellcheck shell=bash
# shellcheck disable=SC2034

packages_build=(gcc libc6-dev make cmake ninja-build pkg-config libevent-dev libssl-dev libpq-dev
    libhiredis-dev libcjson-dev libprotobuf-c-dev protobuf-c-compiler libpcre2-dev)
packages_run=(postgresql redis-server curl jq openssl ca-certificates)
packages_test=(clang-14 libclang-rt-14-dev llvm-14 python3 python3-venv strace procps)

# Prints the given packages that are not installed.
packages_missing() {
    local name
    for name in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed ||
            echo "$name"
    done
}

# Installs what is missing of the given packages; says what to do when it cannot.
packages_install() {
    local missing
    mapfile -t missing < <(packages_missing "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "This needs Debian or Ubuntu (apt-get was not found). Install by hand: ${missing[*]}" >&2
        return 1
    fi
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Missing packages, and neither root nor sudo to install them." >&2
            echo "As root, run: apt-get install -y ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
            --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        echo "apt-get could not install: ${missing[*]}" >&2
        tail -n 15 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
