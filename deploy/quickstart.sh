#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to a metered, billed answer of the demo model.
#
#   deploy/quickstart.sh [--once] [--state DIR] [--port N]
#   deploy/quickstart.sh --stop [--state DIR]
#
#   --once       stop everything at the end
#   --state DIR  where the servers, logs and keys live (default: .quickstart in the checkout)
#   --port N     the gateway's port on 127.0.0.1 (default 8443); the admin API takes N + 1
#   --stop       stop what an earlier run left running
#
# Nothing outside DIR is changed, but for the Debian packages (and, as root in a folder that
# PostgreSQL's own user cannot enter, its data under /var/lib/tollgate-quickstart).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=$root/.quickstart
port=8443
once=no
stop_only=no
step_name=
step_start=0
log=

usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

fail() { # fail WHAT WHAT-TO-DO
    printf '\nquickstart: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '  What to do: %s\n' "$2" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --once) once=yes ;;
        --stop) stop_only=yes ;;
        --state) state=${2:?--state needs a folder}; shift ;;
        --port) port=${2:?--port needs a number}; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "quickstart: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
case $port in '' | *[!0-9]*) echo "quickstart: --port wants a number, not '$port'" >&2; exit 2 ;; esac
if [ "$port" -lt 1 ] || [ "$port" -gt 65534 ]; then
    echo "quickstart: --port must lie between 1 and 65534" >&2
    exit 2
fi
mkdir -p "$state" 2>/dev/null || fail "cannot make the state folder $state" "choose another with --state DIR"
state=$(cd "$state" && pwd)
admin_port=$((port + 1))
bin=$root/build/bin

# shellcheck source=deploy/packages.sh
. "$root/deploy/packages.sh"
# shellcheck source=deploy/lib/servers.sh
. "$root/deploy/lib/servers.sh"

now_ms() { date +%s%3N; }
seconds() { printf '%d.%01d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }
step() {
    step_name=$1
    step_start=$(now_ms)
    printf '%-58s' "$1 ..."
}
step_done() {
    printf ' %s%s\n' "$(seconds $(($(now_ms) - step_start)))" "${1:+  ($1)}"
    step_name=
}
# Runs a command with its output in a log; shows the end of it when the command fails.
quietly() {
    log=$state/log/$1.log
    shift
    if ! "$@" >"$log" 2>&1; then
        echo " failed"
        tail -n 20 "$log" >&2
        fail "'$step_name' failed" "read $log; 'build/bin/tollgate doctor' checks every dependency"
    fi
}

stop_stack() {
    local pid
    pid=$(cat "$state/tollgate.pid" 2>/dev/null || true)
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
        kill -TERM "$pid"
        for _ in $(seq 300); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$state/tollgate.pid"
    redis_stop
    postgres_stop
}

stack_runs() {
    local pid
    pid=$(cat "$state/tollgate.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null &&
        grep -q tollgate "/proc/$pid/cmdline" 2>/dev/null
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
    local p
    for p in "$port" "$admin_port"; do
        if port_taken "$p"; then
            fail "port $p on 127.0.0.1 is taken by another program" \
                "stop that program, or choose another port: deploy/quickstart.sh --port N"
        fi
    done
}

build() {
    [ -f "$root/build/CMakeCache.txt" ] ||
        cmake -G Ninja -S "$root" -B "$root/build" -DTOLLGATE_TESTS=OFF
    cmake --build "$root/build" -j "$(nproc)" --target tollgate tollgate-gateway tollgate-worker \
        tollgate-billing tollgate-admin
}

make_certificates() {
    local dir=$state/tls
    [ -s "$dir/server.crt" ] && openssl x509 -checkend 86400 -noout -in "$dir/server.crt" && return 0
    mkdir -p "$dir"
    chmod 700 "$dir"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -subj "/CN=Tollgate quickstart CA" -keyout "$dir/ca.key" -out "$dir/ca.crt"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" \
        -keyout "$dir/server.key" -out "$dir/server.csr"
    openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
        -CAcreateserial -days 365 -out "$dir/server.crt" -extfile <(
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\n')
    chmod 600 "$dir"/*.key
}

write_config() {
    cat >"$state/tollgate.conf" <<END
# Written by deploy/quickstart.sh; see docs/operations.md for every setting.
[common]
database_url = $database_url
redis_url = $redis_url
state_dir = $state

[worker]
backend = cpu
model_dir = $root/models/demo
model_name = tollgate-demo
listen = unix:$short/worker.sock
admin_listen = unix:$short/worker-admin.sock

[gateway]
listen = 127.0.0.1:$port
admin_listen = unix:$short/gateway-admin.sock
certificate_file = $state/tls/server.crt
key_file = $state/tls/server.key
workers = unix:$short/worker.sock

[billing]
admin_listen = unix:$short/billing-admin.sock
ship_interval_ms = 200ms

[admin]
listen = 127.0.0.1:$admin_port
admin_listen = unix:$short/admin-admin.sock
certificate_file = $state/tls/server.crt
key_file = $state/tls/server.key
END
}

tollgate() { "$bin/tollgate" --config "$state/tollgate.conf" "$@"; }

# The env file is the mark that the database is seeded: it is written last.
seed() {
    [ -s "$state/quickstart.env" ] && grep -qF "TOLLGATE_DATABASE_URL='$database_url'" "$state/quickstart.env" &&
        tollgate tenant show demo >/dev/null 2>&1 && return 0
    tollgate tenant show demo >/dev/null 2>&1 ||
        tollgate tenant create demo --currency USD --billing prepaid
    tollgate project show default --tenant demo >/dev/null 2>&1 ||
        tollgate project create default --tenant demo
    [ "$(tollgate price list --model tollgate-demo --json | jq length)" -gt 0 ] ||
        tollgate price set --model tollgate-demo --currency USD --input 0.27 --cached 0.07 --output 1.10
    [ "$(tollgate credit list --tenant demo --json | jq length)" -gt 0 ] ||
        tollgate credit grant --tenant demo --amount 5.00
    local stamp key admin_key
    stamp=$(date -u +%Y%m%d-%H%M%S)
    key=$(tollgate key create "quickstart-$stamp" --tenant demo --project default --json | jq -er .key)
    admin_key=$(tollgate admin-key create "quickstart-$stamp" --json | jq -er .key)
    (umask 077 && cat >"$state/quickstart.env.new" <<END
TOLLGATE_URL='https://127.0.0.1:$port/v1'
TOLLGATE_API_KEY='$key'
TOLLGATE_CA='$state/tls/ca.crt'
TOLLGATE_ADMIN_URL='https://127.0.0.1:$admin_port'
TOLLGATE_ADMIN_KEY='$admin_key'
TOLLGATE_DATABASE_URL='$database_url'
TOLLGATE_REDIS_URL='$redis_url'
END
    )
    mv "$state/quickstart.env.new" "$state/quickstart.env"
}

start_stack() {
    (umask 077 && : >"$state/log/up.log")
    setsid nohup "$bin/tollgate" up --config "$state/tollgate.conf" >>"$state/log/up.log" 2>&1 </dev/null &
    echo $! >"$state/tollgate.pid"
    local code
    for _ in $(seq 300); do
        stack_runs || fail_up "the stack stopped while starting"
        code=$(curl -s -o /dev/null -w '%{http_code}' --cacert "$state/tls/ca.crt" \
            -H "Authorization: Bearer $TOLLGATE_API_KEY" "$TOLLGATE_URL/models" || true)
        [ "$code" = 200 ] && return 0
        sleep 0.1
    done
    fail_up "the gateway did not become ready within 30 s"
}

fail_up() {
    echo " failed"
    tail -n 20 "$state/log/up.log" >&2
    stop_stack
    fail "$1" "read $state/log/up.log, then run: build/bin/tollgate doctor --config $state/tollgate.conf"
}

first_request() {
    local body headers
    headers=$(mktemp)
    body='{"model":"tollgate-demo","stream":true,"stream_options":{"include_usage":true},
        "thinking":{"type":"enabled"},"temperature":0,"max_tokens":200,
        "messages":[{"role":"user","content":"What is 1234 + 5678?"}]}'
    printf '\n  Question: What is 1234 + 5678?\n'
    printf '  (curl -N %s/chat/completions, streaming; first the reasoning, then the answer)\n\n' "$TOLLGATE_URL"
    curl -sSN --fail-with-body --cacert "$TOLLGATE_CA" -D "$headers" \
        -H "Authorization: Bearer $TOLLGATE_API_KEY" -H 'Content-Type: application/json' \
        -d "$body" "$TOLLGATE_URL/chat/completions" |
        sed -un -e 's/^data: {/{/p' -e '/^{"error"/p' |
        jq --unbuffered -rj 'if .error then "error: " + .error.message + "\n"
            else (.choices[]?.delta | (.reasoning_content // ""), (.content // "")) end' |
        sed -u 's/^/    /' || fail "the request failed" "see $state/log/up.log"
    request_id=$(tr -d '\r' <"$headers" | sed -n 's/^x-request-id: //ip' | tail -n 1)
    rm -f "$headers"
    [ -n "$request_id" ] || fail "the answer carried no x-request-id" "see $state/log/up.log"
    printf '\n'
}

show_billing() {
    for _ in $(seq 100); do
        tollgate usage show "$request_id" >/dev/null 2>&1 && break
        sleep 0.1
    done
    printf '\n  The usage event in PostgreSQL, with its cost:\n\n'
    tollgate usage show "$request_id" | sed 's/^/    /'
    printf "\n  This month's invoice, as it stands now:\n\n"
    tollgate invoice preview --tenant demo | sed 's/^/    /'
    printf '\n'
}

on_exit() {
    local rc=$?
    [ "$once" = no ] || { stop_stack >/dev/null 2>&1 || true; }
    exit $rc
}

main() {
    local start
    start=$(now_ms)
    mkdir -p "$state/log"
    chmod 755 "$state"
    servers_init "$state"
    if [ "$stop_only" = yes ]; then
        stop_stack
        echo "stopped"
        return 0
    fi
    if stack_runs; then
        echo "A stack of this state folder is running already (process $(cat "$state/tollgate.pid")); it is used again."
        # shellcheck source=/dev/null
        . "$state/quickstart.env"
        case $TOLLGATE_URL in *":$port/"*) ;; *) fail "it listens at $TOLLGATE_URL, not on port $port" "stop it first: deploy/quickstart.sh --stop --state $state" ;; esac
        once_keeps_running=yes
    else
        rm -f "$state/tollgate.pid"
        trap on_exit EXIT
        check_ports
        step "Installing Debian packages"
        packages_install "${packages_build[@]}" "${packages_run[@]}" ||
            fail "packages are missing" "install them, then run this again"
        step_done
        step "Building"
        quietly build build
        step_done
        step "Starting a private PostgreSQL and Redis"
        quietly postgres postgres_start
        quietly redis redis_start
        step_done "sockets in $short"
        step "Making certificates and settings"
        quietly certificates make_certificates
        write_config
        step_done
        step "Migrating the database"
        quietly migrate tollgate migrate
        step_done
        step "Seeding a tenant, project, price list and key"
        quietly seed seed
        step_done
        # shellcheck source=/dev/null
        . "$state/quickstart.env"
        step "Starting worker, billing, gateway and admin"
        start_stack
        step_done "tollgate up, process $(cat "$state/tollgate.pid")"
    fi
    first_request
    show_billing
    printf 'Done in %s.\n' "$(seconds $(($(now_ms) - start)))"
    if [ "$once" = yes ]; then
        if [ "${once_keeps_running:-no}" = yes ]; then
            stop_stack
        fi
        echo "Stopping the stack, since --once was given."
        return 0
    fi
    trap - EXIT
    cat <<END

The stack is running. Address and key are in $state/quickstart.env:

  . $state/quickstart.env
  curl --cacert "\$TOLLGATE_CA" -H "Authorization: Bearer \$TOLLGATE_API_KEY" "\$TOLLGATE_URL/models"

Stop it with: deploy/quickstart.sh --stop$([ "$state" = "$root/.quickstart" ] || echo " --state $state")
END
}

main
