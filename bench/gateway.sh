#!/usr/bin/env bash
# Requests a second over TLS: the gateway with everything it does (key, admission, journal, a
# worker that answers at once, billing beside it), and nginx with a key check and one Redis INCR
# in Lua before an nginx upstream that answers a fixed body of the same size. Both in one run, on
# the same cores, with the same certificate and cipher, in alternating rounds; medians and their
# ratio. After a round of the gateway it waits until every answered request stands in PostgreSQL.
#
#   bench/gateway.sh
#
# BENCH_ROUNDS=5 BENCH_SECONDS=5       rounds of each, and how long one is
# BENCH_CONNECTIONS=32                 keep-alive connections
# BENCH_LOOPS                          loops of the gateway and workers of nginx (default: cores)
# BENCH_UPSTREAMS=1                    workers of the nginx upstream
# BENCH_ONLY=gateway|nginx             only one side
# BENCH_PERF=1                         one more round of the gateway under perf
# BUILD=build                          build folder
#
# Needs wrk, nginx-extras, curl, jq, bc, openssl, postgresql and redis-server (Debian packages).
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath -m "${BUILD:-build}")
rounds=${BENCH_ROUNDS:-5}
seconds=${BENCH_SECONDS:-5}
connections=${BENCH_CONNECTIONS:-32}
loops=${BENCH_LOOPS:-$(nproc)}
upstreams=${BENCH_UPSTREAMS:-1}
only=${BENCH_ONLY:-}
port=${BENCH_PORT:-18443}
nginx_port=$((port + 1))
modules=${NGINX_MODULES:-/usr/lib/nginx/modules}
model=tollgate-demo

# shellcheck source=tests/lib/servers.sh
. tests/lib/servers.sh

fail() {
    echo "bench/gateway.sh: $1" >&2
    shift
    local log
    for log in "$@"; do
        [ ! -s "$log" ] || { echo "--- $log" >&2 && tail -n 15 "$log" >&2; }
    done
    exit 1
}

need() {
    local program
    for program in wrk nginx curl jq bc openssl redis-server; do
        command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null ||
            fail "$program is missing"
    done
    [ -f "$modules/ngx_http_lua_module.so" ] ||
        fail "nginx has no Lua module in $modules (Debian: apt-get install nginx-extras)"
    for program in "$port" "$nginx_port"; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$program") 2>/dev/null; then
            fail "port $program is taken; choose another with BENCH_PORT"
        fi
    done
}

pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        servers_end "$pid" TERM
    done
    servers_stop
    rm -rf "$dir"
}

# run NAME COMMAND...: starts a daemon; its process id is in $NAME_pid.
run() {
    local name=$1
    shift
    setpriv --pdeathsig KILL "$@" >"$dir/$name.log" 2>&1 </dev/null &
    pids+=($!)
    printf -v "${name}_pid" %d $!
}

tollgate() {
    "$build/bin/tollgate" --config "$dir/tollgate.conf" "$@" 2>"$dir/cli.log" ||
        fail "tollgate $1 failed" "$dir/cli.log"
}

make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 -keyout "$dir/server.key" -out "$dir/server.crt" \
        2>"$dir/openssl.log" || fail "no certificate" "$dir/openssl.log"
}

write_config() {
    cat >"$dir/tollgate.conf" <<END
[common]
database_url = $SERVERS_DATABASE_URL
redis_url = $SERVERS_REDIS_URL
state_dir = $dir/state

[worker]
backend = echo
model_name = $model
listen = unix:$dir/worker.sock
admin_listen = unix:$dir/worker-admin.sock

[gateway]
listen = 127.0.0.1:$port
loops = $loops
admin_listen = unix:$dir/gateway-admin.sock
certificate_file = $dir/server.crt
key_file = $dir/server.key
workers = unix:$dir/worker.sock
${BENCH_SETTINGS:-}

[billing]
admin_listen = unix:$dir/billing-admin.sock
END
}

wait_ready() {
    local name=$1 i
    for ((i = 0; i < 200; i++)); do
        [ "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$dir/$name-admin.sock" \
            http://x/readyz)" = 200 ] && return 0
        sleep 0.05
    done
    fail "the $name did not become ready in 10 s" "$dir/$name.log"
}

start_tollgate() {
    mkdir -p "$dir/state"
    write_config
    tollgate migrate >/dev/null
    tollgate tenant create bench --currency USD --billing prepaid >/dev/null
    tollgate project create main --tenant bench >/dev/null
    tollgate price set --model $model --currency USD --input 0.27 --cached 0.07 --output 1.10 >/dev/null
    tollgate credit grant --tenant bench --amount 100000 --no-wait >/dev/null
    run worker "$build/bin/tollgate-worker" --config "$dir/tollgate.conf"
    run billing "$build/bin/tollgate-billing" --config "$dir/tollgate.conf"
    run gateway "$build/bin/tollgate-gateway" --config "$dir/tollgate.conf"
    wait_ready worker
    wait_ready billing
    wait_ready gateway
    BENCH_KEY=$(tollgate key create bench --tenant bench --project main --json | jq -er .key)
}

start_redis_of_nginx() {
    mkdir -p "$dir/nginx"
    redis-server --port 0 --unixsocket "$dir/nginx/redis.sock" --unixsocketperm 777 --save '' \
        --appendonly no --dir "$dir/nginx" >"$dir/nginx_redis.log" 2>&1 </dev/null &
    nginx_redis_pid=$!
    pids+=($!)
    for _ in {1..100}; do
        [ "$(redis-cli -s "$dir/nginx/redis.sock" ping 2>/dev/null)" = PONG ] && return 0
        sleep 0.05
    done
    fail "the Redis of nginx did not start" "$dir/nginx_redis.log"
}

nginx_common() {
    [ "$(id -u)" != 0 ] || echo "user root;"
    cat <<END
daemon off;
pid $dir/nginx/$1.pid;
error_log $dir/nginx/$1.err;
worker_processes $2;
events { worker_connections 1024; }
END
}

nginx_http() {
    cat <<END
    access_log off;
    default_type application/json;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    client_body_temp_path $dir/nginx/body;
    proxy_temp_path $dir/nginx/proxy;
    fastcgi_temp_path $dir/nginx/fastcgi;
    uwsgi_temp_path $dir/nginx/uwsgi;
    scgi_temp_path $dir/nginx/scgi;
END
}

write_front() {
    printf 'load_module %s;\n' "$modules/ndk_http_module.so" "$modules/ngx_http_lua_module.so"
    nginx_common front "$loops"
    cat <<END
http {
$(nginx_http)
    lua_package_path "/usr/share/lua/5.1/?.lua;;";
    init_by_lua_block {
        keys = { ["$BENCH_KEY"] = "bench" }
    }
    upstream answer {
        server unix:$dir/nginx/answer.sock;
        keepalive 64;
        keepalive_requests 100000000;
    }
    server {
        listen 127.0.0.1:$nginx_port ssl reuseport;
        ssl_certificate $dir/server.crt;
        ssl_certificate_key $dir/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_conf_command Ciphersuites ${tls_now#* };
        location / {
            access_by_lua_file $dir/nginx/access.lua;
            proxy_pass http://answer;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
END
}

write_access() {
    cat <<END
local header = ngx.var.http_authorization
local name = header and keys[string.sub(header, 8)]
if not name then
    return ngx.exit(401)
end
local redis = ngx.socket.tcp()
redis:settimeout(1000)
if not redis:connect("unix:$dir/nginx/redis.sock", { pool_size = 64 }) then
    return ngx.exit(503)
end
redis:send("*2\r\n\$4\r\nINCR\r\n\$" .. #name .. "\r\n" .. name .. "\r\n")
local line = redis:receive("*l")
if not line or string.byte(line) ~= 58 then
    return ngx.exit(503)
end
redis:setkeepalive(60000, 64)
END
}

write_upstream() {
    nginx_common answer "$upstreams"
    cat <<END
http {
$(nginx_http)
    server {
        listen unix:$dir/nginx/answer.sock;
        location / { return 200 '$answer'; }
    }
}
END
}

# The upstream answers with the very body that the gateway gave to this request.
start_nginx() {
    start_redis_of_nginx
    write_upstream >"$dir/nginx/answer.conf"
    write_front >"$dir/nginx/front.conf"
    write_access >"$dir/nginx/access.lua"
    run nginx_answer nginx -e "$dir/nginx/answer.err" -c "$dir/nginx/answer.conf"
    run nginx_front nginx -e "$dir/nginx/front.err" -c "$dir/nginx/front.conf"
    local i
    for ((i = 0; i < 100; i++)); do
        [ "$(chat "$nginx_port" 2>/dev/null || true)" = "$answer" ] && return 0
        sleep 0.05
    done
    fail "nginx does not answer" "$dir/nginx/front.err" "$dir/nginx/answer.err" "$dir/nginx_front.log"
}

chat() {
    curl -sS --cacert "$dir/server.crt" -H "Authorization: Bearer $BENCH_KEY" \
        -H 'Content-Type: application/json' -d "$BENCH_BODY" \
        "https://127.0.0.1:$1/v1/chat/completions"
}

tls_of() {
    openssl s_client -connect "127.0.0.1:$1" </dev/null 2>/dev/null |
        sed -nE 's/^(New, )?(TLSv1\.[0-9]), Cipher is (.*)/\2 \3/p' | head -n 1
}

# Milliseconds of processor time of a process and its children so far.
cpu_ms() {
    local pid
    for pid in "$1" $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        cat "/proc/$pid/stat" 2>/dev/null || true
    done | awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13 }
        END { printf "%d", sum * 1000 / hz }'
}

# one_round SIDE PORT PROCESS...: a line of figures to $dir/SIDE.rounds, the processor time to
# $dir/SIDE.cpu as "process ms requests".
one_round() {
    local side=$1 port=$2 name pid line
    shift 2
    local -A start=()
    for name in "$@"; do
        pid=${name}_pid
        start[$name]=$(cpu_ms "${!pid}")
    done
    TIMEFORMAT='%U %S'
    { time wrk -t "$loops" -c "$connections" -d "${seconds}s" --timeout 5s -s bench/gateway.lua \
        "https://127.0.0.1:$port" >"$dir/wrk.out" 2>"$dir/wrk.err"; } 2>"$dir/wrk.time" ||
        fail "wrk failed" "$dir/wrk.out" "$dir/wrk.err"
    line=$(sed -n 's/^result //p' "$dir/wrk.out")
    read -r -a figures <<<"$line"
    [ "${#figures[@]}" -ge 5 ] || fail "wrk gave no figures" "$dir/wrk.out"
    [ "${figures[4]}" = 0 ] ||
        fail "$side: ${figures[4]} requests failed: ${figures[*]:5}" "$dir/gateway.log" "$dir/nginx/front.err"
    echo "${figures[*]:1:3}" >>"$dir/$side.rounds"
    for name in "$@"; do
        pid=${name}_pid
        echo "$name $(($(cpu_ms "${!pid}") - ${start[$name]})) ${figures[0]}" >>"$dir/$side.cpu"
    done
    awk -v n="${figures[0]}" '{ printf "wrk %d %d\n", ($1 + $2) * 1000, n }' "$dir/wrk.time" >>"$dir/$side.cpu"
    printf '  %-8s %8.0f requests/s   p50 %5d us   p99 %6d us' "$side" "${figures[@]:1:3}"
    if [ "$port" != "$nginx_port" ]; then
        answered=$((answered + figures[0]))
        wait_shipped
    fi
    echo
}

shipped() { psql "$SERVERS_DATABASE_URL" -XAtc "select count(*) from usage_events"; }

# What the shipper has not done by the end of a round must not burden the next one.
wait_shipped() {
    local now last=-1 start=$EPOCHREALTIME
    now=$(shipped)
    printf '   in PostgreSQL at the end %5.1f %%' "$(echo "100 * $now / $answered" | bc -l)"
    while [ "$now" -lt "$answered" ] || [ "$now" != "$last" ]; do
        [ "${EPOCHREALTIME%.*}" -lt $((${start%.*} + 60)) ] ||
            fail "only $now of $answered answered requests are in usage_events" "$dir/billing.log"
        last=$now
        sleep 0.25
        now=$(shipped)
    done
    printf ', all after %.1f s' "$(echo "$EPOCHREALTIME - $start" | bc -l)"
}

median() { sort -n | awk '{ v[NR] = $1 } END { printf "%d", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

summary() {
    local side=$1
    [ -s "$dir/$side.rounds" ] || return 0
    printf '  %-8s %8d requests/s   p50 %5d us   p99 %6d us\n' "$side" \
        "$(cut -d' ' -f1 "$dir/$side.rounds" | median)" \
        "$(cut -d' ' -f2 "$dir/$side.rounds" | median)" \
        "$(cut -d' ' -f3 "$dir/$side.rounds" | median)"
    awk '{ ms[$1] += $2; n[$1] += $3; all += $2 }
        END { for (p in ms) printf "    %-14s %7.1f us a request  %5.1f %%\n", p, ms[p] * 1000 / n[p], 100 * ms[p] / all }' \
        "$dir/$side.cpu" | sort -k2,2nr
}

under_perf() {
    local out=${BENCH_PERF_OUT:-$build/gateway.perf}
    perf record -q -e cpu-clock -F 997 -g -p "$gateway_pid" -o "$out" -- sleep "$seconds" \
        >"$dir/perf.log" 2>&1 &
    local perf_pid=$!
    one_round perf "$port" gateway
    wait "$perf_pid" || true
    echo "where the gateway's time goes (perf report -i $out):"
    perf report -i "$out" --stdio --no-children -g none --sort dso --percent-limit 1 2>/dev/null |
        grep -vE '^#|^$' | head -n 10
    perf report -i "$out" --stdio --no-children -g none --sort dso,sym --percent-limit 0.5 2>/dev/null |
        grep -vE '^#|^$' | head -n 60
}

main() {
    need
    [ -f "$build/CMakeCache.txt" ] || cmake -S . -B "$build" >/dev/null
    [ -n "${BENCH_NO_BUILD:-}" ] || cmake --build "$build" -j "$(nproc)" --target tollgate \
        tollgate-gateway tollgate-worker tollgate-billing >/dev/null
    dir=$(mktemp -d /tmp/tollgate-bench.XXXXXX)
    chmod 755 "$dir"
    trap cleanup EXIT
    trap 'exit 130' INT TERM
    export BENCH_KEY=sk-bench
    export BENCH_BODY='{"model":"'$model'","max_tokens":16,"messages":[{"role":"user","content":"Say one short thing about toll gates."}]}'
    make_certificate
    local answer='{"id":"chatcmpl-0","object":"chat.completion","choices":[]}'
    if [ "$only" != nginx ]; then
        servers_start "$dir" || fail "the servers did not start"
        redis_pid=$SERVERS_REDIS_PID postgres_pid=$SERVERS_POSTGRES_PID
        start_tollgate
        answer=$(chat "$port") || fail "the gateway does not answer" "$dir/gateway.log"
        jq -e '.choices[0].finish_reason and (.usage.total_tokens > 0)' <<<"$answer" >/dev/null 2>&1 ||
            fail "the gateway answered: $answer" "$dir/gateway.log" "$dir/worker.log"
    fi
    tls_now=$([ "$only" = nginx ] || tls_of "$port")
    tls_now=${tls_now:-TLSv1.3 TLS_AES_128_GCM_SHA256}
    [ "$only" = gateway ] || start_nginx
    printf '%s, %d cores, Linux %s, commit %s%s\n' \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)" \
        "$(git rev-parse --short HEAD 2>/dev/null || echo none)" \
        "$([ -z "$(git status --porcelain 2>/dev/null)" ] || echo ' (changed)')"
    printf '%d connections, request %d bytes, answer %d bytes, %d loops, %d rounds of %d s\n' \
        "$connections" ${#BENCH_BODY} ${#answer} "$loops" "$rounds" "$seconds"
    echo "TLS: $tls_now"
    [ "$only" = gateway ] || [ "$(tls_of "$nginx_port")" = "$tls_now" ] ||
        fail "nginx speaks $(tls_of "$nginx_port"), the gateway $tls_now"
    measure
}

measure() {
    local i answered=1
    for ((i = 0; i < rounds; i++)); do
        [ "$only" = nginx ] || one_round gateway "$port" gateway worker redis billing postgres
        [ "$only" = gateway ] || one_round nginx "$nginx_port" nginx_front nginx_answer nginx_redis
    done
    echo "medians, and the processor time of each process:"
    summary gateway
    summary nginx
    if [ -z "$only" ]; then
        awk -v a="$(cut -d' ' -f1 "$dir/gateway.rounds" | median)" \
            -v b="$(cut -d' ' -f1 "$dir/nginx.rounds" | median)" \
            'BEGIN { printf "ratio gateway / nginx: %.2f\n", a / b }'
    fi
    if [ -n "${BENCH_PERF:-}" ] && [ "$only" != nginx ]; then
        under_perf
    fi
}

main
