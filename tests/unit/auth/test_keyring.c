/* runs: thread (one loop, real servers) */
#include "auth/keyring.h"

#include <unistd.h>

#include "auth/key_text.h"
#include "auth/manage.h"
#include "auth/publish.h"
#include "tests/unit/auth/fresh_db.h"

static struct error err;
static struct pg *pg;
static struct redis_sync *redis_sync;
static const struct actor actor = {"test", "test"};
static struct uuid tenant, project;
static struct loop *loop;
static struct keyring *keyring;

static enum status last_status;
static struct uuid last_key;
static int answers;

static void on_answer(enum status st, const struct key_record *record, void *arg)
{
    last_status = st;
    if (st == OK)
        last_key = record->key_id;
    answers++;
    loop_stop(loop);
}

static enum status find(const char *key)
{
    answers = 0;
    keyring_find(keyring, key, strlen(key), on_answer, NULL);
    loop_run(loop); /* until the answer; an answer that came at once has left its stop */
    CHECK_INT(answers, 1);
    return last_status;
}

static void make_key(const char *name, struct uuid *id, struct secret *key)
{
    struct key_new k = {.project = project, .name = name};
    CHECK_FATAL(key_create(pg, &actor, &k, id, key, &err) == OK);
}

static void tell(const char *sha256_hex, void *arg)
{
    enum status st = publish_key(pg, redis_sync, sha256_hex, &err);
    if (st != OK)
        fprintf(stderr, "%s\n", err.text);
    CHECK_INT(st, OK);
}

/* Asks until the answer is the one wanted; bounded, so that a failure ends. */
static bool becomes(const char *key, enum status want)
{
    for (int i = 0; i < 5000; i++) {
        if (find(key) == want)
            return true;
        usleep(1000);
    }
    return false;
}

static void lives(void)
{
    struct uuid id;
    struct secret key;
    make_key("one", &id, &key);
    CHECK_INT(find(key.text), OK);
    CHECK(uuid_equal(&last_key, &id));
    CHECK_INT(find(key.text), OK);

    char broken[128];
    snprintf(broken, sizeof broken, "%s", key.text);
    broken[20] = broken[20] == 'a' ? 'b' : 'a';
    CHECK_INT(find(broken), DENIED);
    CHECK_INT(find(""), DENIED);
    struct secret unknown;
    key_text_make(KEY_API, &unknown);
    CHECK_INT(find(unknown.text), DENIED);

    CHECK_INT(key_revoke(pg, &actor, &id, &err), OK);
    CHECK_INT(manage_key_hashes(pg, SUBJECT_KEY, &id, tell, NULL, &err), OK);
    CHECK(becomes(key.text, DENIED));
}

static void suspended(void)
{
    struct uuid id;
    struct secret key;
    make_key("two", &id, &key);
    CHECK_INT(find(key.text), OK);
    CHECK_INT(tenant_set_status(pg, &actor, &tenant, "suspended", &err), OK);
    CHECK_INT(manage_key_hashes(pg, SUBJECT_TENANT, &tenant, tell, NULL, &err), OK);
    CHECK(becomes(key.text, DENIED));
    CHECK_INT(tenant_set_status(pg, &actor, &tenant, "active", &err), OK);
    CHECK_INT(manage_key_hashes(pg, SUBJECT_TENANT, &tenant, tell, NULL, &err), OK);
    CHECK(becomes(key.text, OK));
    struct key_new gone = {.project = project, .name = "gone", .expires_at = "2020-01-01"};
    CHECK_INT(key_create(pg, &actor, &gone, &id, &key, &err), OK);
    CHECK_INT(find(key.text), DENIED);
}

/* A slow writer of an old copy does not bring a revoked key back. */
static void stale_copy(void)
{
    struct uuid id;
    struct secret key;
    make_key("three", &id, &key);
    char hex[65], name[96], old[4096];
    key_text_hash_hex(key.text, strlen(key.text), hex);
    snprintf(name, sizeof name, PUBLISH_PREFIX "%s", hex);
    tell(hex, NULL);
    const struct redis_reply *r =
        redis_sync_command(redis_sync, 2, (const char *const[]){"GET", name}, NULL, &err);
    CHECK_FATAL(r && r->type == REDIS_STRING);
    snprintf(old, sizeof old, "%s", r->text);
    CHECK_INT(key_revoke(pg, &actor, &id, &err), OK);
    tell(hex, NULL);
    char *json = strchr(old, ':');
    *json++ = 0;
    const char *const argv[] = {"EVAL", publish_put_script, "1", name, old, json, "600"};
    r = redis_sync_command(redis_sync, 7, argv, NULL, &err);
    CHECK(r && r->type == REDIS_INT && r->integer == 0);
    CHECK_INT(find(key.text), DENIED);
}

/* More keys than the cache holds, and a Redis that has forgotten all. */
static void many(void)
{
    struct uuid id;
    struct secret keys[20];
    char name[32];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "many-%d", i);
        make_key(name, &id, &keys[i]);
    }
    for (int round = 0; round < 3; round++) {
        const struct redis_reply *r =
            redis_sync_command(redis_sync, 1, (const char *const[]){"FLUSHALL"}, NULL, &err);
        CHECK(r != NULL);
        for (int i = 0; i < 20; i++)
            CHECK_INT(find(keys[i].text), OK);
    }
}

int main(void)
{
    const char *redis_url = getenv("TOLLGATE_TEST_REDIS_URL");
    if (!redis_url)
        CHECK_SKIP("TOLLGATE_TEST_REDIS_URL is not set");
    pg = fresh_schema("keyring");
    struct tenant_new t = {"acme", "USD", true, NULL};
    CHECK_FATAL(tenant_create(pg, &actor, &t, &tenant, &err) == OK);
    CHECK_FATAL(project_create(pg, &actor, &tenant, "web", &project, &err) == OK);
    struct redis_options options = {
        .url = redis_url, .connect_timeout_ms = 5000, .command_timeout_ms = 5000};
    redis_sync = redis_sync_new(&options, &err);
    loop = loop_new(&err);
    CHECK_FATAL(redis_sync && loop);
    struct redis *redis = redis_new(loop, &options, &err);
    struct pg_async *pg_async = pg_async_new(loop, fresh_db_url, 64, 5000, &err);
    CHECK_FATAL(redis && pg_async);
    struct keyring_options ring = {.redis = redis,
                                   .redis_options = &options,
                                   .pg = pg_async,
                                   .entries_max = 8,
                                   .ttl_ms = 60000,
                                   .ttl_blind_ms = 1000};
    keyring = keyring_new(loop, &ring, &err);
    CHECK_FATAL(keyring);
    lives();
    suspended();
    stale_copy();
    many();

    /* Freed with questions on their way, of an unknown key and of a malformed one, which is asked
     * for like any other: the askers are told, nothing leaks. */
    struct secret unknown;
    key_text_make(KEY_API, &unknown);
    answers = 0;
    keyring_find(keyring, unknown.text, strlen(unknown.text), on_answer, NULL);
    keyring_find(keyring, "not a key", 9, on_answer, NULL);
    CHECK_INT(answers, 0);
    keyring_free(keyring);
    CHECK_INT(answers, 2);
    CHECK_INT(last_status, UNAVAILABLE);
    redis_free(redis);
    pg_async_free(pg_async);
    loop_free(loop);
    redis_sync_free(redis_sync);
    pg_free(pg);
    return check_done();
}
