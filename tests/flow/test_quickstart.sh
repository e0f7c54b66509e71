#!/usr/bin/env bash
# The quickstart on a built tree: in an oddly named folder, with a taken port, twice in a row.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ "${TOLLGATE_BUILD:-$root/build}" = "$root/build" ] || { echo "skipped: the quickstart uses build/"; exit 77; }
work=$(mktemp -d)
chmod 755 "$work"
state="$work/a state with spaces, and a name that is much too long for the path of any Unix socket"
cleanup() {
    "$root/deploy/quickstart.sh" --stop --state "$state" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
checks=0 failures=0
check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    "$@" || { failures=$((failures + 1)); echo "failed: $what"; }
}
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

python3 -c "
import socket, time
s = socket.socket(); s.bind(('127.0.0.1', $port)); s.listen(); time.sleep(600)" &
squatter=$!
sleep 0.5
if "$root/deploy/quickstart.sh" --once --state "$state" --port "$port" >"$work/taken" 2>&1; then
    check "a taken port must fail" false
fi
check "it says which port is taken" grep -q "port $port on 127.0.0.1 is taken" "$work/taken"
kill "$squatter"
wait "$squatter" 2>/dev/null || true

for round in first second; do
    if ! "$root/deploy/quickstart.sh" --once --state "$state" --port "$port" >"$work/$round" 2>&1; then
        check "the $round run" false
    fi
    cat "$work/$round"
    check "$round: the answer" grep -q "1234 + 5678 = 6912" "$work/$round"
    check "$round: the reasoning" grep -q "1234+5678" "$work/$round"
    check "$round: the invoice" grep -qi "tollgate-demo" "$work/$round"
    check "$round: nothing is left running" bash -c "! pgrep -f 'tollgate-[a-z]+ --config $work' >/dev/null"
done
"$root/deploy/quickstart.sh" --state "$state" --port "$port" >"$work/third" 2>&1 || check "the third run" false
check "it is left running" bash -c ". '$state/quickstart.env' && curl -sf --cacert \"\$TOLLGATE_CA\" -H \"Authorization: Bearer \$TOLLGATE_API_KEY\" \"\$TOLLGATE_URL/models\" >/dev/null"
"$root/deploy/quickstart.sh" --state "$state" --port "$port" >"$work/fourth" 2>&1 || check "the fourth run" false
check "a running stack is used again" grep -q "running already" "$work/fourth"
echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
