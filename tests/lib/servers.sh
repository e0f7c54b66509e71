#!/usr/bin/env bash
# A private PostgreSQL and a private Redis for tests and benchmarks, on Unix sockets in a folder
# of their own. Works as root (PostgreSQL then runs as user postgres) and as any other user.
#
#   bash tests/lib/servers.sh run CMD...   starts both, runs CMD with TOLLGATE_TEST_DATABASE_URL
#                                          and TOLLGATE_TEST_REDIS_URL set, always cleans up;
#                                          the exit status is CMD's
#   bash tests/lib/servers.sh start DIR    starts both, prints the two URLs as export lines and
#                                          leaves the servers running
#   bash tests/lib/servers.sh stop DIR     stops what `start DIR` started and removes DIR
#
# Sourced, it gives servers_start DIR, servers_stop, and for tests that stop one of them:
# servers_postgres_start DIR, servers_postgres_stop, servers_redis_start DIR,
# servers_redis_stop [SIGNAL]. They set SERVERS_DATABASE_URL, SERVERS_REDIS_URL,
# SERVERS_POSTGRES_PID and SERVERS_REDIS_PID; call them from the shell itself, not in $( ).
#
# SERVERS_FSYNC=1    PostgreSQL syncs to disk (off otherwise: faster, and a test needs no disk)
# SERVERS_KEEP=1     the servers outlive the shell that started them
# REDIS_ARGS         more arguments for redis-server

servers_pg_bin() {
    local dir
    if [ -n "${PG_BIN:-}" ]; then
        echo "$PG_BIN"
        return
    fi
    for dir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5,5nr); do
        if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
            echo "$dir"
            return
        fi
    done
    dir=$(dirname "$(command -v postgres 2>/dev/null || echo /nowhere/postgres)")
    if [ ! -x "$dir/initdb" ]; then
        echo "servers.sh: no PostgreSQL server found (Debian: apt-get install postgresql)" >&2
        return 1
    fi
    echo "$dir"
}

# Runs a program as the user PostgreSQL shall have. The kernel ends it with this shell unless
# SERVERS_KEEP is set, so that not even a killed test leaves servers behind.
servers_exec() {
    local -a how=()
    if [ "$(id -u)" = 0 ]; then
        how=(setpriv --reuid postgres --regid postgres --init-groups)
        [ -n "${SERVERS_KEEP:-}" ] || how+=(--pdeathsig INT)
    elif [ -z "${SERVERS_KEEP:-}" ]; then
        how=(setpriv --pdeathsig INT)
    fi
    if [ ${#how[@]} = 0 ]; then
        exec "$@"
    fi
    exec "${how[@]}" "$@"
}

servers_postgres_start() {
    local dir=$1 bin data log i
    bin=$(servers_pg_bin) || return 1
    data=$dir/postgres/data
    log=$dir/postgres/log
    if [ ! -d "$data" ]; then
        mkdir -p "$dir/postgres" || return 1
        [ "$(id -u)" != 0 ] || chown postgres "$dir/postgres" || return 1
        if ! (cd / && servers_exec "$bin/initdb" -D "$data" -U tollgate -A trust -N \
            --locale=C -E UTF8) >"$dir/initdb.log" 2>&1; then
            tail -n 20 "$dir/initdb.log" >&2
            return 1
        fi
    fi
    local -a settings=(-c listen_addresses= -c "unix_socket_directories=$dir/postgres"
        -c max_connections=100 -c shared_buffers=32MB -c logging_collector=off
        -c log_min_messages=warning -c timezone=UTC)
    if [ -z "${SERVERS_FSYNC:-}" ]; then
        settings+=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off)
    fi
    (cd / && servers_exec "$bin/postgres" -D "$data" "${settings[@]}") \
        >>"$dir/postgres.out" 2>&1 </dev/null &
    SERVERS_POSTGRES_PID=$!
    for ((i = 0; i < 300; i++)); do
        if "$bin/pg_isready" -q -h "$dir/postgres" -U tollgate -d postgres; then
            break
        fi
        if ! kill -0 "$SERVERS_POSTGRES_PID" 2>/dev/null; then
            tail -n 20 "$dir/postgres.out" >&2
            return 1
        fi
        sleep 0.1
    done
    echo "$SERVERS_POSTGRES_PID" >"$dir/postgres.pid"
    if ! psql -qAt -h "$dir/postgres" -U tollgate -d postgres -c \
        "select 1 from pg_database where datname = 'tollgate'" | grep -q 1; then
        psql -q -h "$dir/postgres" -U tollgate -d postgres -c "create database tollgate" || return 1
    fi
    SERVERS_DATABASE_URL="postgresql://tollgate@/tollgate?host=$dir/postgres"
}

servers_redis_start() {
    local dir=$1 i
    local -a how=()
    [ -n "${SERVERS_KEEP:-}" ] || how=(setpriv --pdeathsig KILL)
    # shellcheck disable=SC2086
    (cd "$dir" && exec "${how[@]}" redis-server --port 0 --unixsocket "$dir/redis.sock" \
        --save '' --appendonly no --dir "$dir" ${REDIS_ARGS:-}) >>"$dir/redis.out" 2>&1 </dev/null &
    SERVERS_REDIS_PID=$!
    for ((i = 0; i < 200; i++)); do
        if [ "$(redis-cli -s "$dir/redis.sock" ping 2>/dev/null)" = PONG ]; then
            echo "$SERVERS_REDIS_PID" >"$dir/redis.pid"
            SERVERS_REDIS_URL="unix:$dir/redis.sock"
            return 0
        fi
        if ! kill -0 "$SERVERS_REDIS_PID" 2>/dev/null; then
            tail -n 20 "$dir/redis.out" >&2
            return 1
        fi
        sleep 0.05
    done
    echo "servers.sh: redis-server did not start in 10 s" >&2
    return 1
}

# Ends PID with SIGNAL and waits until it is gone; after 10 s it is killed.
servers_end() {
    local pid=$1 signal=$2 i
    [ -n "$pid" ] || return 0
    kill -CONT "$pid" 2>/dev/null || return 0
    kill -"$signal" "$pid" 2>/dev/null || return 0
    for ((i = 0; i < 100; i++)); do
        if ! kill -0 "$pid" 2>/dev/null || [ "$(ps -o stat= -p "$pid" 2>/dev/null | cut -c1)" = Z ]; then
            wait "$pid" 2>/dev/null || true
            return 0
        fi
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    return 0
}

servers_postgres_stop() {
    servers_end "${SERVERS_POSTGRES_PID:-}" INT
    SERVERS_POSTGRES_PID=
}

servers_redis_stop() {
    servers_end "${SERVERS_REDIS_PID:-}" "${1:-TERM}"
    SERVERS_REDIS_PID=
}

servers_start() {
    mkdir -p "$1" && chmod 755 "$1" || return 1
    local dir
    dir=$(cd "$1" && pwd)
    if [ ${#dir} -gt 80 ]; then
        echo "servers.sh: the path $dir is too long for a Unix socket" >&2
        return 1
    fi
    servers_redis_start "$dir" || return 1
    servers_postgres_start "$dir" || return 1
}

servers_stop() {
    servers_redis_stop TERM
    servers_postgres_stop
}

servers_run() {
    local dir status=0 child=
    dir=$(mktemp -d /tmp/tollgate-test.XXXXXX)
    trap 'servers_stop; rm -rf "'"$dir"'"' EXIT
    trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 130' INT
    trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 143' TERM HUP
    if ! servers_start "$dir"; then
        echo "servers.sh: the servers did not start" >&2
        exit 1
    fi
    export TOLLGATE_TEST_DATABASE_URL=$SERVERS_DATABASE_URL
    export TOLLGATE_TEST_REDIS_URL=$SERVERS_REDIS_URL
    export TOLLGATE_TEST_REDIS_PID=$SERVERS_REDIS_PID
    export TOLLGATE_TEST_POSTGRES_PID=$SERVERS_POSTGRES_PID
    "$@" <&0 &
    child=$!
    wait "$child" || status=$?
    child=
    exit "$status"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -u
    case "${1:-}" in
    run)
        shift
        [ $# -gt 0 ] || { echo "usage: servers.sh run CMD..." >&2; exit 2; }
        servers_run "$@"
        ;;
    start)
        [ $# = 2 ] || { echo "usage: servers.sh start DIR" >&2; exit 2; }
        SERVERS_KEEP=1
        servers_start "$2" || exit 1
        echo "export TOLLGATE_TEST_DATABASE_URL='$SERVERS_DATABASE_URL'"
        echo "export TOLLGATE_TEST_REDIS_URL='$SERVERS_REDIS_URL'"
        ;;
    stop)
        [ $# = 2 ] || { echo "usage: servers.sh stop DIR" >&2; exit 2; }
        SERVERS_REDIS_PID=$(cat "$2/redis.pid" 2>/dev/null)
        SERVERS_POSTGRES_PID=$(cat "$2/postgres.pid" 2>/dev/null)
        servers_stop
        [ ! -d "$2/postgres" ] || rm -rf "$2"
        ;;
    *)
        sed -n '2,20p' "$0"
        exit 2
        ;;
    esac
fi
