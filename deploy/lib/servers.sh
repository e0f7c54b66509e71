# A private PostgreSQL and Redis on Unix sockets, for deploy/quickstart.sh. Sourced.
# shellcheck shell=bash
# shellcheck disable=SC2034
#
# servers_init DIR sets: short (a path to DIR that is fit for a socket and a URL),
# database_url, redis_url. With SERVERS_FSYNC=off PostgreSQL is made without fsync (for tests).

servers_init() {
    local dir=$1
    # A socket's path holds at most 107 bytes, and it stands in URLs and lists: a folder that
    # is deep, or oddly named, is reached through a short link.
    short=$dir
    if [ ${#dir} -gt 70 ] || [[ $dir == *[!A-Za-z0-9/._-]* ]]; then
        short=/tmp/tollgate-$(printf '%s' "$dir" | sha256sum | cut -c1-12)
        ln -sfn "$dir" "$short"
    fi
    pg_data=$dir/postgres
    pg_socket=$short/postgres-socket
    pg_as=()
    if [ "$(id -u)" = 0 ]; then
        pg_as=(runuser -u postgres --)
    fi
    redis_dir=$dir/redis
    database_url="postgresql:///tollgate?host=$pg_socket&user=tollgate"
    redis_url="unix:$short/redis/redis.sock"
}

pg_bin() {
    local dir
    dir=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -z "$dir" ] || { dirname "$dir" && return 0; }
    echo "no PostgreSQL server was found under /usr/lib/postgresql" >&2
    return 1
}

# PostgreSQL refuses to run as root. As root its files belong to the user postgres, and lie
# elsewhere when that user cannot reach the state folder (a clone under /root).
postgres_place() {
    [ ${#pg_as[@]} -gt 0 ] || { mkdir -p "$pg_data" "$pg_socket" && chmod 700 "$pg_data" "$pg_socket"; return; }
    if [ ! -e "$pg_data" ]; then
        if "${pg_as[@]}" test -x "$(dirname "$pg_data")"; then
            mkdir -p "$pg_data"
        else
            local away
            away=/var/lib/tollgate-quickstart/$(printf '%s' "$pg_data" | sha256sum | cut -c1-12)
            mkdir -p "$away"
            ln -s "$away" "$pg_data"
        fi
    fi
    if [ ! -e "$pg_socket" ]; then
        if [ -L "$pg_data" ]; then
            mkdir -p "$(readlink -f "$pg_data")-socket"
            ln -s "$(readlink -f "$pg_data")-socket" "$pg_socket"
        else
            mkdir -p "$pg_socket"
        fi
    fi
    chown postgres "$(readlink -f "$pg_data")" "$(readlink -f "$pg_socket")"
    chmod 700 "$(readlink -f "$pg_data")" "$(readlink -f "$pg_socket")"
}

postgres_start() {
    local bin data socket
    bin=$(pg_bin)
    postgres_place
    data=$(readlink -f "$pg_data")
    # The socket folder through the short path, unless it lies elsewhere anyway.
    socket=$pg_socket
    [ ! -L "$pg_socket" ] || socket=$(readlink -f "$pg_socket")
    cd "$data" || return # runuser keeps the folder; it must be one that postgres can enter
    if [ ! -s "$data/PG_VERSION" ]; then
        "${pg_as[@]}" "$bin/initdb" -D "$data" -U tollgate --auth=trust -E UTF8 --locale=C --no-sync
        printf "%s\n" "listen_addresses = ''" "unix_socket_directories = '$socket'" \
            "shared_buffers = 64MB" "log_min_messages = warning" \
            ${SERVERS_FSYNC:+"fsync = $SERVERS_FSYNC"} >>"$data/postgresql.conf"
        chown --reference="$data/PG_VERSION" "$data/postgresql.conf"
    fi
    if ! "${pg_as[@]}" "$bin/pg_ctl" -D "$data" status >/dev/null; then
        "${pg_as[@]}" "$bin/pg_ctl" -D "$data" -l "$data/server.log" -w -t 30 start ||
            { tail -n 10 "$data/server.log"; return 1; }
    fi
    "$bin/psql" -X -h "$socket" -U tollgate -d postgres -Atc "select 1 from pg_database where datname = 'tollgate'" |
        grep -q 1 || "$bin/createdb" -h "$socket" -U tollgate tollgate
}

postgres_stop() {
    [ -e "$pg_data" ] || return 0
    local data
    data=$(readlink -f "$pg_data")
    (cd "$data" && "${pg_as[@]}" "$(pg_bin)/pg_ctl" -D "$data" -m fast -w stop >/dev/null 2>&1) || true
}

redis_start() {
    mkdir -p "$redis_dir"
    chmod 700 "$redis_dir"
    if redis-cli -s "$short/redis/redis.sock" ping 2>/dev/null | grep -q PONG; then
        return 0
    fi
    redis-server --port 0 --unixsocket "$short/redis/redis.sock" --unixsocketperm 700 \
        --dir "$redis_dir" --appendonly yes --daemonize yes --logfile "$redis_dir/redis.log" \
        --pidfile "$redis_dir/redis.pid"
    local _
    for _ in $(seq 100); do
        redis-cli -s "$short/redis/redis.sock" ping 2>/dev/null | grep -q PONG && return 0
        sleep 0.05
    done
    tail -n 10 "$redis_dir/redis.log"
    return 1
}

redis_stop() {
    redis-cli -s "$short/redis/redis.sock" shutdown >/dev/null 2>&1 || true
}
