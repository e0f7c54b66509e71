#include "auth/publish.h"

#include <inttypes.h>

const char publish_put_script[] =
    "local old = redis.call('GET', KEYS[1])\n"
    "if old and tonumber(string.match(old, '^(%d+):')) >= tonumber(ARGV[1]) then return 0 end\n"
    "redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'EX', ARGV[3])\n"
    "return 1\n";

const char publish_select_sql[] =
    "SELECT version, (to_jsonb(r) - 'sha256')::text FROM key_records r"
    " WHERE sha256 = decode($1, 'hex')";

static enum status run(struct redis_sync *redis, int argc, const char *const *argv,
                       struct error *err)
{
    const struct redis_reply *reply = redis_sync_command(redis, argc, argv, NULL, err);
    if (!reply)
        return UNAVAILABLE;
    if (reply->type == REDIS_ERROR)
        return error_set(err, UNAVAILABLE, "Redis: %s", reply->text);
    return OK;
}

static enum status put_copy(struct redis_sync *redis, const char *name,
                            const struct pg_result *record, struct error *err)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", PUBLISH_TTL_S);
    const char *const argv[] = {"EVAL", publish_put_script,    "1",
                                name,   pg_text(record, 0, 0), pg_text(record, 0, 1),
                                seconds};
    return run(redis, 7, argv, err);
}

enum status publish_key(struct pg *pg, struct redis_sync *redis, const char *sha256_hex,
                        struct error *err)
{
    const char *const params[] = {sha256_hex};
    struct pg_result *record = NULL;
    enum status st = pg_query(pg, publish_select_sql, 1, params, &record, err);
    if (st != OK)
        return st;
    char name[96];
    snprintf(name, sizeof name, PUBLISH_PREFIX "%.64s", sha256_hex);
    if (pg_rows(record) > 0)
        st = put_copy(redis, name, record, err);
    else
        st = run(redis, 2, (const char *const[]){"DEL", name}, err);
    pg_result_free(record);
    if (st == OK)
        st = run(redis, 3, (const char *const[]){"PUBLISH", PUBLISH_CHANNEL, sha256_hex}, err);
    return st;
}
