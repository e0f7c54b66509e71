#!/usr/bin/env bash
# The command line on real servers: exit codes, JSON, what is refused, what is never printed.
# runs: address
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -z "${TOLLGATE_FLOW_SERVERS:-}" ]; then
    exec env TOLLGATE_FLOW_SERVERS=1 bash "$root/tests/lib/servers.sh" run bash "$0" "$@"
fi
tollgate=${TOLLGATE_BUILD:-$root/build}/bin/tollgate
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
psql "$TOLLGATE_TEST_DATABASE_URL" -Xqc "create database cli_$$" || exit 1
database=${TOLLGATE_TEST_DATABASE_URL/\/tollgate\?/\/cli_$$?}
cat >"$work/conf" <<END
[common]
database_url = $database
redis_url = $TOLLGATE_TEST_REDIS_URL
state_dir = $work
[billing]
admin_listen = unix:$work/billing.sock
END

checks=0 failures=0
out='' err='' code=0
check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    if ! "$@" >"$work/check" 2>&1; then
        failures=$((failures + 1))
        echo "failed: $what"
        printf '    out: %s\n    err: %s\n    code: %s\n' "$out" "$err" "$code"
        cat "$work/check"
    fi
}
run() { # EXPECTED-CODE ARGS...
    local want=$1
    shift
    "$tollgate" --config "$work/conf" "$@" >"$work/out" 2>"$work/err"
    code=$?
    out=$(cat "$work/out") err=$(cat "$work/err")
    check "exit code of: tollgate $*" [ "$code" = "$want" ]
}
json() { # WHAT FILTER: the filter is true of the last output
    check "$1" jq -e "$2" "$work/out"
}
says() { # WHAT TEXT: standard error has the text
    check "$1" grep -qF -- "$2" "$work/err"
}

# Before anything is there.
run 1 tenant list
says "no schema yet" 'tenants'
run 1 doctor
check "doctor says what to do" grep -q 'tollgate migrate' "$work/out"
run 0 migrate
run 0 migrate --json
json "nothing left to migrate" '.applied == 0'

# Tenants and projects.
run 0 tenant create acme --currency USD --billing prepaid
run 1 tenant create acme --currency USD
says "a taken name" "already"
run 1 tenant create Acme --currency USD
run 1 tenant create other --currency usd
run 2 tenant create other
says "a missing option" "--currency is missing"
run 2 tenant create other --currency USD --billing barter
run 2 tenant create other --currency USD --legal '{"name"'
run 0 tenant create --json other --currency EUR --billing postpaid --legal '{"name": "Öther \" GmbH"}'
json "a tenant's fields" '.name == "other" and .billing == "postpaid" and .legal.name == "Öther \" GmbH"'
run 1 tenant show "acme'; drop table tenants; --"
run 0 tenant list --json
json "two tenants" 'length == 2'
run 0 project create main --tenant acme
run 1 project create main --tenant acme
run 1 project create main --tenant nobody
says "an unknown tenant" 'no tenant "nobody"'
run 0 project show main --tenant acme --json
json "a project" '.tenant == "acme" and .status == "active" and .priority == 0'
run 0 project update main --tenant acme --priority -5 --json
json "a priority" '.priority == -5'
run 2 project update main --tenant acme
run 2 project update main --tenant acme --priority 101
run 1 project update nobody --tenant acme --priority 1
run 0 project update main --tenant acme --priority 0

# Keys: shown once, then never again.
run 0 key create laptop --tenant acme --project main --models tollgate-demo,other --expires 30d --json
key=$(jq -r .key "$work/out")
check "the form of a key" grep -Eqx 'sk-tg-[0-9A-Za-z]{49}' <<<"$key"
json "a key's fields" '.status == "live" and .models == ["tollgate-demo", "other"] and .expires != null'
run 1 key create laptop --tenant acme --project main
check "a key is not printed on failure" bash -c '! grep -q "sk-tg-" "$0" "$1"' "$work/out" "$work/err"
run 2 key create --tenant acme --project main
run 2 key create x --tenant acme --project main --expires soon
run 2 key create x --tenant acme --project main --models a,,b
run 0 key create other --tenant acme --project main
check "it is said that a key is shown once" grep -q 'this once' "$work/out"
for command in "key list" "key list --json" "key list --all --json" "key show laptop --tenant acme --project main --json"; do
    # shellcheck disable=SC2086
    run 0 $command
    check "no key in: $command" bash -c '! grep -qF "$0" "$1"' "$key" "$work/out"
done
hash=$(printf %s "$key" | sha256sum | cut -d' ' -f1)
redis() { redis-cli -s "${TOLLGATE_TEST_REDIS_URL#unix:}" "$@"; }
check "gateways can find the key" [ -n "$(redis get "tg:k:$hash")" ]
check "no key in PostgreSQL" [ "$(psql "$database" -XAtc "select count(*) from api_keys where encode(sha256, 'hex') = '$hash'")" = 1 ]
run 0 key update laptop --tenant acme --project main --models all --expires never --json
json "an updated key" '.models == null and .expires == null'
run 2 key update laptop --tenant acme --project main
run 0 key revoke laptop --tenant acme --project main --json
json "a revoked key" '.status == "revoked"'
check "Redis knows that it is revoked" grep -qi 'revoked": *true' <(redis get "tg:k:$hash")
run 1 key revoke laptop --tenant acme --project main
run 0 key create laptop --tenant acme --project main
run 0 admin-key create ops --json
check "the form of an administrator's key" grep -Eqx 'sk-tgadm-[0-9A-Za-z]{49}' <<<"$(jq -r .key "$work/out")"
run 1 admin-key create second --role king
run 0 admin-key revoke ops
run 1 admin-key revoke ops

# Limits.
run 0 limit set --tenant acme --project main --key laptop --requests-per-min 3 --json
json "a limit" '.[0].requests_per_min == 3 and .[0].tokens_per_min == null'
run 0 limit set --tenant acme --project main --key laptop --concurrency 2 --json
json "the other limit stays" '.[0].requests_per_min == 3 and .[0].concurrency == 2'
run 2 limit set --tenant acme --key laptop --requests-per-min 3
run 2 limit set --tenant acme
run 2 limit set --tenant acme --requests-per-min -1
run 0 limit clear --tenant acme --project main --key laptop --json
json "no limit left" 'length == 0'

# Prices.
run 0 price set --model tollgate-demo --currency USD --input 0.27 --cached 0.07 --output 1.10
run 0 price set --model tollgate-demo --currency USD --input 0.000001 --cached 0 --output 1 --tenant acme --from 2099-01-01
run 2 price set --model tollgate-demo --currency USD --input 0.0000001 --cached 0 --output 1
run 2 price set --model tollgate-demo --currency USD --input -1 --cached 0 --output 1
run 0 price list --model tollgate-demo --json
json "two prices" 'length == 2 and .[0].input == "0.27" and .[1].tenant == "acme" and .[1].input == "0.000001"'
run 0 price list --current --json
json "one of them now" 'length == 1'

# Credit.
run 0 credit grant --tenant acme --amount 5.00 --reference welcome --json
json "what is in the ledger" '.balance == "5.00" and .balance_pico == "5000000000000" and .usable == false'
run 1 credit grant --tenant acme --amount 5.00 --reference welcome
run 0 credit pay --tenant acme --amount 0.000000000001 --no-wait --json
run 2 credit pay --tenant acme --amount 0
run 2 credit pay --tenant acme --amount 1e3
run 2 credit pay --tenant acme --amount 1,5
run 0 credit balance --tenant acme --json
json "exact to the last decimal" '.balance == "5.000000000001" and .granted == "5.00" and .owed == "0.00"'
run 0 credit list --tenant acme --json
json "both credits" 'length == 2 and .[1].reference == "welcome"'
run 0 credit history --tenant acme --json
json "double entries" '[.[].amount_pico | tonumber] | length == 4 and add == 0'

# Usage, invoices, the books.
run 1 usage show 019aa1b2-0000-7000-8000-000000000000
run 1 usage show none
run 0 usage list --tenant acme --by model --json
json "no usage" '. == []'
run 2 usage list --tenant acme --by moon
run 0 usage events --tenant acme
run 0 invoice preview --tenant acme --json
run 2 invoice preview --tenant acme --month 2026-13
run 1 invoice finalise --tenant acme --month 2099-01
run 1 invoice show TG-2099-000001
run 2 invoice export
run 0 invoice list --json
json "no invoices" '. == []'
run 0 reconcile --json
json "the books agree" '.agree and (.differences | length) == 0'

# The call itself.
run 2 nonsense
run 2 tenant
run 0 --help
run 0 key create --help
check "help shows examples" grep -q 'tollgate key create laptop' "$work/out"
"$tollgate" --config "$work/none" tenant list >/dev/null 2>"$work/err"
check "a missing settings file" [ $? = 1 ]
"$tollgate" --config "$work/conf" tenant list >/dev/full 2>"$work/err"
check "an answer that cannot be written" [ $? = 1 ]
sed -i 's|^database_url.*|database_url = postgresql://secret:hunter2@127.0.0.1:1/none|' "$work/conf"
run 1 tenant list
says "which server is away" 'PostgreSQL'
check "no password in an error" bash -c '! grep -q hunter2 "$0"' "$work/err"

echo "$checks checks, $failures failed"
[ "$failures" = 0 ]
