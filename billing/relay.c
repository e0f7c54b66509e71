#include "billing/relay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "auth/publish.h"
#include "base/log.h"

enum { CONNECT_TIMEOUT_MS = 5000, REDIS_TIMEOUT_MS = 2000, WAIT_MS = 200, RETRY_MS = 200 };
enum { HASH_TEXT = 64, SCAN_MAX = 4096, PING_WAITS = 25 };

struct relay {
    const struct billing_settings *settings;
    struct pg *pg;
    struct redis_sync *redis;
    struct metric *relayed;
    int waits;      /* since the last sign of life */
    char said[512]; /* the last failure that was logged */
    atomic_bool stop;
    pthread_t thread;
};

static void say(struct relay *r, const struct error *err)
{
    const char *text = err ? err->text : "";
    if (strcmp(r->said, text) == 0)
        return;
    if (err)
        log_error("passing on key changes: %s", text);
    else
        log_info("passing on key changes: well again");
    snprintf(r->said, sizeof r->said, "%s", text);
}

static enum status connect_both(struct relay *r, struct error *err)
{
    const struct billing_settings *s = r->settings;
    struct redis_options options = {
        .url = s->redis_url,
        .password = s->redis_password[0] ? s->redis_password : NULL,
        .connect_timeout_ms = REDIS_TIMEOUT_MS,
        .command_timeout_ms = REDIS_TIMEOUT_MS,
    };
    if (!r->redis)
        r->redis = redis_sync_new(&options, err);
    if (!r->redis)
        return UNAVAILABLE;
    r->pg = pg_connect(s->database_url, CONNECT_TIMEOUT_MS, err);
    if (!r->pg)
        return UNAVAILABLE;
    pg_set_timeout(r->pg, s->query_timeout_ms);
    return pg_script(r->pg, "LISTEN tollgate_invalidate", err);
}

/* --- copies that are out of date --- */

struct copies {
    int count;
    char hash[SCAN_MAX][HASH_TEXT + 1];
    char version[SCAN_MAX][24];
};

/* One step of a SCAN. */
static enum status scan(struct relay *r, char cursor[24], struct copies *c, struct error *err)
{
    const char *argv[] = {"SCAN", cursor, "MATCH", PUBLISH_PREFIX "*", "COUNT", "512"};
    const struct redis_reply *reply = redis_sync_command(r->redis, 6, argv, NULL, err);
    if (!reply)
        return UNAVAILABLE;
    if (reply->type != REDIS_ARRAY || reply->count != 2)
        return error_set(err, UNAVAILABLE, "Redis: an unexpected answer to SCAN");
    snprintf(cursor, 24, "%s", reply->items[0].text);
    const struct redis_reply *keys = &reply->items[1];
    const size_t prefix = strlen(PUBLISH_PREFIX);
    c->count = 0;
    for (size_t i = 0; i < keys->count && c->count < SCAN_MAX; i++)
        if (keys->items[i].len == prefix + HASH_TEXT)
            snprintf(c->hash[c->count++], HASH_TEXT + 1, "%s", keys->items[i].text + prefix);
    return OK;
}

static enum status read_version(struct relay *r, struct copies *c, int i, struct error *err)
{
    char name[sizeof PUBLISH_PREFIX + HASH_TEXT];
    snprintf(name, sizeof name, "%s%s", PUBLISH_PREFIX, c->hash[i]);
    const char *argv[] = {"GET", name};
    const struct redis_reply *reply = redis_sync_command(r->redis, 2, argv, NULL, err);
    if (!reply)
        return UNAVAILABLE;
    c->version[i][0] = 0;
    if (reply->type == REDIS_STRING)
        snprintf(c->version[i], sizeof c->version[i], "%.*s", (int)strcspn(reply->text, ":"),
                 reply->text);
    return OK;
}

static enum status refresh(struct relay *r, struct copies *c, int i, struct error *err)
{
    struct pg_result *row;
    enum status st = read_version(r, c, i, err);
    if (st == OK)
        st = pg_query(r->pg, publish_select_sql, 1, (const char *const[]){c->hash[i]}, &row, err);
    if (st != OK)
        return st;
    bool same = pg_rows(row) > 0 && strcmp(pg_text(row, 0, 0), c->version[i]) == 0;
    pg_result_free(row);
    if (same)
        return OK;
    metric_add(r->relayed, 1);
    return publish_key(r->pg, r->redis, c->hash[i], err);
}

/* Messages sent while nobody listened are lost: what they would have said is found out. */
static enum status refresh_all(struct relay *r, struct error *err)
{
    char cursor[24] = "0";
    struct copies *c = malloc(sizeof *c);
    if (!c)
        return error_set(err, NOMEM, "out of memory");
    enum status st;
    do {
        st = scan(r, cursor, c, err);
        for (int i = 0; st == OK && i < c->count && !r->stop; i++)
            st = refresh(r, c, i, err);
    } while (st == OK && strcmp(cursor, "0") != 0 && !r->stop);
    free(c);
    return st;
}

/* While Redis is away the messages wait in the connection to PostgreSQL. */
static enum status tell(struct relay *r, const char *hash, struct error *err)
{
    enum status st;
    metric_add(r->relayed, 1);
    while ((st = publish_key(r->pg, r->redis, hash, err)) != OK && pg_ok(r->pg) && !r->stop) {
        say(r, err);
        usleep(RETRY_MS * 1000);
    }
    if (st == OK)
        say(r, NULL);
    return st;
}

/* A connection that is silent may be a dead one: it is asked now and then. */
static enum status ask_alive(struct relay *r, struct error *err)
{
    if (++r->waits < PING_WAITS)
        return OK;
    r->waits = 0;
    return pg_script(r->pg, "SELECT 1", err);
}

static enum status relay_one(struct relay *r, struct error *err)
{
    const char *payload;
    char hash[HASH_TEXT + 1];
    struct error none;
    enum status st = pg_wait_notify(r->pg, WAIT_MS, &payload, &none);
    if (st == NOT_FOUND)
        return ask_alive(r, err);
    if (st != OK)
        return error_set(err, st, "%s", none.text);
    if (strlen(payload) != HASH_TEXT)
        return OK;
    snprintf(hash, sizeof hash, "%s", payload);
    return tell(r, hash, err);
}

/* After any failure all begins anew, the search for what was missed too. */
static void *run(void *arg)
{
    struct relay *r = arg;
    while (!r->stop) {
        struct error err;
        enum status st = OK;
        if (!r->pg) {
            st = connect_both(r, &err);
            if (st == OK)
                st = refresh_all(r, &err);
            if (st == OK)
                say(r, NULL);
        }
        if (st == OK)
            st = relay_one(r, &err);
        if (st == OK)
            continue;
        say(r, &err);
        pg_free(r->pg);
        r->pg = NULL;
        usleep(RETRY_MS * 1000);
    }
    return NULL;
}

struct relay *relay_start(const struct billing_settings *settings, struct metrics *metrics,
                          struct error *err)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    r->settings = settings;
    r->relayed = metrics_counter(
        metrics, &(struct metric_spec){.name = "tollgate_billing_keys_relayed_total",
                                       .help = "Key changes passed on to gateways"});
    int failed = pthread_create(&r->thread, NULL, run, r);
    if (failed) {
        error_errno(err, failed, "cannot start a thread");
        free(r);
        return NULL;
    }
    return r;
}

void relay_stop(struct relay *r)
{
    if (!r)
        return;
    r->stop = true;
    pthread_join(r->thread, NULL);
    pg_free(r->pg);
    redis_sync_free(r->redis);
    free(r);
}
