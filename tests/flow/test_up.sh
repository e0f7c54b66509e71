#!/usr/bin/env bash
# `tollgate up` and `tollgate doctor` with the real daemons: a part that dies comes back, stopping
# goes front to back and loses nothing, nothing outlives a killed `up`, faults are named.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -z "${TOLLGATE_FLOW_SERVERS:-}" ]; then
    exec env TOLLGATE_FLOW_SERVERS=1 bash "$root/tests/lib/servers.sh" run bash "$0" "$@"
fi
bin=${TOLLGATE_BUILD:-$root/build}/bin
work=$(mktemp -d /tmp/tg-up.XXXXXX)
up=
cleanup() {
    [ -z "$up" ] || kill -KILL "$up" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
psql "$TOLLGATE_TEST_DATABASE_URL" -Xqc "create database up_$$" || exit 1
database=${TOLLGATE_TEST_DATABASE_URL/\/tollgate\?/\/up_$$?}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 60 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key" -out "$work/crt" 2>/dev/null || exit 1
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
cat >"$work/conf" <<END
[common]
database_url = $database
redis_url = $TOLLGATE_TEST_REDIS_URL
state_dir = $work/state
[worker]
backend = echo
model_name = tollgate-demo
listen = unix:$work/worker.sock
admin_listen = unix:$work/worker-admin.sock
[gateway]
listen = 127.0.0.1:$port
admin_listen = unix:$work/gateway-admin.sock
certificate_file = $work/crt
key_file = $work/key
workers = unix:$work/worker.sock
loops = 1
[billing]
admin_listen = unix:$work/billing-admin.sock
ship_interval_ms = 50ms
[admin]
listen = 127.0.0.1:$(free_port)
admin_listen = unix:$work/admin-admin.sock
certificate_file = $work/crt
key_file = $work/key
END

checks=0 failures=0
check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || { failures=$((failures + 1)); echo "failed: $what"; }
}
tollgate() { "$bin/tollgate" --config "$work/conf" "$@"; }
wait_for() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    echo "waited in vain for: $what"
    cat "$work/up.log"
    return 1
}
start_up() {
    "$bin/tollgate" up --config "$work/conf" >"$work/up.log" 2>&1 &
    up=$!
}
logged() { grep -qF -- "$1" "$work/up.log"; }
children() { pgrep -P "$up"; }
child() { pgrep -P "$up" -f "tollgate-$1 "; }
stop_up() { # SIGNAL
    kill "-$1" "$up"
    wait "$up"
    local code=$?
    up=
    return $code
}
gone() { ! pgrep -f "tollgate-[a-z]* --config $work/conf"; }
chat() {
    curl -sS --cacert "$work/crt" -H "Authorization: Bearer $key" -H 'Content-Type: application/json' \
        -d '{"model":"tollgate-demo","max_tokens":3,"messages":[{"role":"user","content":"hi"}]}' \
        "https://localhost:$port/v1/chat/completions"
}

# Nothing is there yet.
tollgate doctor >"$work/doctor" 2>&1
check "doctor fails" [ $? = 1 ]
check "doctor: how to make the state folder" grep -q "install -d" "$work/doctor"
check "doctor: migrate" grep -q "tollgate migrate" "$work/doctor"
start_up
stop_code=0
wait "$up" || stop_code=$?
up=
check "up without a schema refuses" [ "$stop_code" = 1 ]
check "and says what to do" logged "run 'tollgate migrate' first"
check "nothing is left running" wait_for "the parts to go" gone

tollgate migrate >/dev/null && tollgate tenant create acme --currency USD --billing prepaid >/dev/null &&
    tollgate project create main --tenant acme >/dev/null &&
    tollgate price set --model tollgate-demo --currency USD --input 1 --cached 1 --output 1 >/dev/null &&
    tollgate credit grant --tenant acme --amount 1.00 >/dev/null || check "seeding" false
key=$(tollgate key create k --tenant acme --project main --json | jq -r .key)

# A start, a request, a second `up`.
start_up
check "all parts start" wait_for "all parts" logged "all parts are ready"
check "in their order" [ "$(grep -o '\(worker\|billing\|gateway\|admin\) is ready' "$work/up.log" | tr '\n' ' ')" = \
    "worker is ready billing is ready gateway is ready admin is ready " ]
check "a request is answered" wait_for "an answer" bash -c "$(declare -f chat); work=$work port=$port key=$key; chat | jq -e .choices"
tollgate up >"$work/second" 2>&1
check "a second up is refused" [ $? = 1 ]
check "it says which process runs" grep -q "process $up" "$work/second"
check "doctor is content" tollgate doctor >"$work/doctor" 2>&1
check "doctor asks the worker" grep -q "answers, serves tollgate-demo" "$work/doctor"
check "doctor: days of the certificate" grep -Eq "valid for (59|60) more days" "$work/doctor"
check "doctor as JSON" jq -e 'all(.[]; .result != "failed")' <(tollgate doctor --json) >/dev/null

# Each part dies once and comes back.
for part in worker billing gateway admin; do
    kill -KILL "$(child $part)"
    check "$part comes back" wait_for "$part" logged "$part is ready again"
    check "$part: its end is named" logged "$part has ended by itself: killed by signal 9"
done
check "requests go on" wait_for "an answer" bash -c "$(declare -f chat); work=$work port=$port key=$key; chat | jq -e .choices"

# A clean stop: front to back, with everything shipped.
id=$(chat | jq -r .id)
check "a last request" [ -n "$id" ]
check "up ends with 0" stop_up TERM
order=$(grep -o '\(worker\|billing\|gateway\|admin\) has ended (exit code 0)' "$work/up.log" | cut -d' ' -f1 | tr '\n' ' ')
check "gateway and admin, then billing, then worker: $order" grep -Eqx '(gateway admin|admin gateway) billing worker ' <<<"$order"
check "the books agree" tollgate reconcile >"$work/reconcile" 2>&1
check "all was shipped" [ "$(psql "$database" -XAtc 'select count(*) from open_holds')" = 0 ]

# Killed: nothing stays.
start_up
check "it starts again" wait_for "all parts" logged "all parts are ready"
parts=$(children)
kill -KILL "$up"
wait "$up" 2>/dev/null
up=
check "no part outlives a killed up" wait_for "the parts to go" gone
check "there were four" [ "$(wc -w <<<"$parts")" = 4 ]

# A fault at the start: the port is taken.
python3 -c "
import socket, time
s = socket.socket(); s.bind(('127.0.0.1', $port)); s.listen(); print('up', flush=True); time.sleep(600)" >"$work/squatter" &
squatter=$!
wait_for "the squatter" grep -q up "$work/squatter"
start_up
stop_code=0
wait "$up" || stop_code=$?
up=
check "up refuses" [ "$stop_code" = 1 ]
check "it says that the gateway did not start" logged "gateway did not start ("
check "and shows the end of its log with the port" logged "$port"
tollgate doctor >"$work/doctor" 2>&1
check "doctor sees the port" grep -q "failed.*port of gateway" "$work/doctor"
kill "$squatter"
wait "$squatter" 2>/dev/null
check "nothing is left running at the end" gone

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
