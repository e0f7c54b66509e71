#include "auth/keyring.h"

#include <assert.h>

#include "auth/publish.h"
#include "base/clock.h"
#include "base/crypto.h"

/*
 * A hash table of entries by the SHA-256 of the key, all in one list by last use. An entry is
 * either known (a record, or "no such key") since checked_ms, or being asked for, with callers
 * waiting. A message about a key that is being asked for marks it, and it is asked for again:
 * the answer on its way may be older than the message.
 */
enum { BUCKETS_LEAST = 1024, UNKNOWN_TTL_MS = 1000, HEX_SIZE = 2 * SHA256_BYTES + 1 };

struct waiter {
    struct waiter *next;
    keyring_fn *fn;
    void *arg;
};

struct entry {
    struct entry *chain;         /* of its bucket */
    struct entry *newer, *older; /* by last use */
    struct keyring *keyring;
    uint8_t hash[SHA256_BYTES];
    int64_t checked_ms; /* when the stores were last asked: what they say is as of then */
    bool known;         /* record or absent is set */
    bool absent;        /* no such key */
    bool asking, asked_again;
    struct key_record *record; /* key_record_bytes of it; NULL: absent or unknown */
    struct waiter *first, **last;
};

struct keyring {
    struct loop *loop;
    struct redis *redis, *listener;
    struct pg_async *pg;
    struct redis_script *put;
    struct entry **buckets;
    size_t bucket_count;
    struct entry *newest, *oldest;
    int count, entries_max;
    int64_t ttl_ms, ttl_blind_ms;
    int64_t listening_since_ms; /* -1: messages may be missed now */
    bool closing;
};

static void to_hex(const uint8_t hash[SHA256_BYTES], char out[HEX_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = hex[hash[i] >> 4];
        out[2 * i + 1] = hex[hash[i] & 15];
    }
    out[HEX_SIZE - 1] = 0;
}

static bool from_hex(const char *text, size_t len, uint8_t out[SHA256_BYTES])
{
    if (len != HEX_SIZE - 1)
        return false;
    for (int i = 0; i < SHA256_BYTES; i++) {
        int value = 0;
        for (int k = 0; k < 2; k++) {
            char c = text[2 * i + k];
            if (c >= '0' && c <= '9')
                value = value * 16 + c - '0';
            else if (c >= 'a' && c <= 'f')
                value = value * 16 + c - 'a' + 10;
            else
                return false;
        }
        out[i] = (uint8_t)value;
    }
    return true;
}

static struct entry **bucket_of(struct keyring *k, const uint8_t hash[SHA256_BYTES])
{
    uint64_t word; /* a hash is random already */
    memcpy(&word, hash, sizeof word);
    return &k->buckets[word & (k->bucket_count - 1)];
}

static struct entry *find(struct keyring *k, const uint8_t hash[SHA256_BYTES])
{
    for (struct entry *e = *bucket_of(k, hash); e; e = e->chain)
        if (crypto_equal(e->hash, hash, SHA256_BYTES))
            return e;
    return NULL;
}

static void list_remove(struct keyring *k, struct entry *e)
{
    *(e->newer ? &e->newer->older : &k->newest) = e->older;
    *(e->older ? &e->older->newer : &k->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void list_push(struct keyring *k, struct entry *e)
{
    e->older = k->newest;
    *(k->newest ? &k->newest->newer : &k->oldest) = e;
    k->newest = e;
}

static void drop(struct keyring *k, struct entry *e)
{
    assert(!e->first && !e->asking);
    struct entry **at = bucket_of(k, e->hash);
    while (*at != e)
        at = &(*at)->chain;
    *at = e->chain;
    list_remove(k, e);
    k->count--;
    free(e->record);
    free(e);
}

/* Makes room by the entries that were not used for longest; those being asked for stay. */
static bool make_room(struct keyring *k)
{
    struct entry *e = k->oldest;
    while (k->count >= k->entries_max && e) {
        struct entry *next = e->newer;
        if (!e->asking)
            drop(k, e);
        e = next;
    }
    return k->count < k->entries_max;
}

static struct entry *add(struct keyring *k, const uint8_t hash[SHA256_BYTES])
{
    struct entry *e = make_room(k) ? calloc(1, sizeof *e) : NULL;
    if (!e)
        return NULL;
    e->keyring = k;
    memcpy(e->hash, hash, SHA256_BYTES);
    e->last = &e->first;
    struct entry **bucket = bucket_of(k, hash);
    e->chain = *bucket;
    *bucket = e;
    list_push(k, e);
    k->count++;
    return e;
}

static enum status judge(const struct entry *e)
{
    if (e->absent || e->record->revoked)
        return DENIED;
    if (e->record->expires_wall_ms && e->record->expires_wall_ms <= clock_wall_ms())
        return DENIED;
    return OK;
}

/* false: corrupt, or out of memory. */
static bool keep(struct entry *e, const char *json, size_t len)
{
    struct key_record parsed;
    if (key_record_parse(json, len, &parsed) != OK)
        return false;
    size_t bytes = key_record_bytes(&parsed);
    struct key_record *record = malloc(bytes);
    if (!record)
        return false;
    memcpy(record, &parsed, bytes);
    free(e->record);
    e->record = record;
    e->absent = false;
    return true;
}

/* A callback may push the entry out, so it gets a copy. */
static void call(const struct entry *e, enum status st, keyring_fn *fn, void *arg)
{
    if (st != OK) {
        fn(st, NULL, arg);
        return;
    }
    struct key_record copy;
    memcpy(&copy, e->record, key_record_bytes(e->record));
    fn(OK, &copy, arg);
}

static bool fresh(const struct keyring *k, const struct entry *e, int64_t now_ms)
{
    if (!e->known)
        return false;
    int64_t age_ms = now_ms - e->checked_ms;
    if (e->absent)
        return age_ms < UNKNOWN_TTL_MS;
    if (k->listening_since_ms < 0 || e->checked_ms < k->listening_since_ms)
        return age_ms < k->ttl_blind_ms;
    return age_ms < k->ttl_ms;
}

/* Answers all who wait. Callbacks may ask for keys again; `asking` keeps the entry until all
 * have been called. */
static void answer(struct entry *e, enum status st)
{
    struct waiter *w = e->first;
    e->first = NULL;
    e->last = &e->first;
    e->asking = true;
    while (w) {
        struct waiter *next = w->next;
        call(e, st, w->fn, w->arg);
        free(w);
        w = next;
    }
    e->asking = false;
}

/* The last question of a keyring that was freed has come back. */
static void finish_closing(struct keyring *k)
{
    if (k->newest)
        return;
    redis_script_free(k->put);
    free(k->buckets);
    free(k);
}

static void ask_redis(struct entry *e);

static void settle(struct entry *e, enum status st)
{
    struct keyring *k = e->keyring;
    if (k->closing) {
        e->asking = false;
        drop(k, e);
        finish_closing(k);
        return;
    }
    if (e->asked_again && st == OK) {
        e->asked_again = false;
        ask_redis(e);
        return;
    }
    e->asked_again = false;
    e->known = st == OK;
    answer(e, st == OK ? judge(e) : UNAVAILABLE);
    /* Who asked from inside a callback while the answer was not kept waits for the next one. */
    if (e->first)
        ask_redis(e);
}

/* Redis may not have taken the copy; the next miss asks PostgreSQL again. */
static void put_done(enum status st, const struct redis_reply *reply, void *arg)
{
}

static void put_copy(struct entry *e, const struct pg_result *r)
{
    char name[96], hex[HEX_SIZE], seconds[16];
    to_hex(e->hash, hex);
    snprintf(name, sizeof name, PUBLISH_PREFIX "%s", hex);
    snprintf(seconds, sizeof seconds, "%d", PUBLISH_TTL_S);
    const char *const argv[] = {name, pg_text(r, 0, 0), pg_text(r, 0, 1), seconds};
    redis_eval(e->keyring->redis, e->keyring->put, 1, 4, argv, NULL, put_done, NULL);
}

static void on_row(enum status st, const struct pg_result *r, void *arg)
{
    struct entry *e = arg;
    if (st == OK && pg_rows(r) > 0) {
        const char *json = pg_text(r, 0, 1);
        if (!keep(e, json, strlen(json)))
            st = UNAVAILABLE;
        else if (!e->keyring->closing)
            put_copy(e, r);
    } else if (st == OK) {
        e->absent = true;
    }
    settle(e, st);
}

static void ask_postgres(struct entry *e)
{
    struct keyring *k = e->keyring;
    if (!k->pg || k->closing) {
        settle(e, UNAVAILABLE);
        return;
    }
    char hex[HEX_SIZE];
    to_hex(e->hash, hex);
    pg_async_query(k->pg, publish_select_sql, 1, (const char *const[]){hex}, on_row, e);
}

static void on_copy(enum status st, const struct redis_reply *reply, void *arg)
{
    struct entry *e = arg;
    const char *json = NULL;
    if (st == OK && reply->type == REDIS_STRING)
        json = memchr(reply->text, ':', reply->len);
    if (json) {
        json++;
        if (keep(e, json, reply->len - (size_t)(json - reply->text))) {
            settle(e, OK);
            return;
        }
    }
    ask_postgres(e);
}

static void ask_redis(struct entry *e)
{
    char name[96], hex[HEX_SIZE];
    to_hex(e->hash, hex);
    snprintf(name, sizeof name, PUBLISH_PREFIX "%s", hex);
    e->asking = true;
    e->checked_ms = loop_now_ms(e->keyring->loop);
    redis_command(e->keyring->redis, on_copy, e, 2, (const char *const[]){"GET", name}, NULL);
}

static void on_message(enum status st, const struct redis_reply *reply, void *arg)
{
    struct keyring *k = arg;
    uint8_t hash[SHA256_BYTES];
    if (st != OK || reply->type != REDIS_STRING || !from_hex(reply->text, reply->len, hash))
        return;
    struct entry *e = find(k, hash);
    if (!e)
        return;
    e->known = false;
    if (e->asking)
        e->asked_again = true;
    else
        drop(k, e);
}

static void on_listener_state(enum redis_state state, void *arg)
{
    struct keyring *k = arg;
    k->listening_since_ms = state == REDIS_CONNECTED ? loop_now_ms(k->loop) : -1;
}

static enum status start_listener(struct keyring *k, const struct redis_options *options,
                                  struct error *err)
{
    struct redis_options listen = *options;
    listen.on_state = on_listener_state;
    listen.arg = k;
    k->listener = redis_new(k->loop, &listen, err);
    if (!k->listener)
        return INVALID;
    if (redis_subscribe(k->listener, PUBLISH_CHANNEL, on_message, k) != OK)
        return error_set(err, NOMEM, "out of memory");
    return OK;
}

struct keyring *keyring_new(struct loop *loop, const struct keyring_options *options,
                            struct error *err)
{
    struct keyring *k = calloc(1, sizeof *k);
    if (!k) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    k->loop = loop;
    k->redis = options->redis;
    k->pg = options->pg;
    k->entries_max = options->entries_max;
    k->ttl_ms = options->ttl_ms;
    k->ttl_blind_ms = options->ttl_blind_ms;
    k->listening_since_ms = -1;
    k->bucket_count = BUCKETS_LEAST;
    while (k->bucket_count < (size_t)k->entries_max)
        k->bucket_count *= 2;
    k->buckets = calloc(k->bucket_count, sizeof *k->buckets);
    k->put = redis_script_new(publish_put_script);
    enum status st = k->buckets && k->put ? start_listener(k, options->redis_options, err)
                                          : error_set(err, NOMEM, "out of memory");
    if (st == OK)
        return k;
    keyring_free(k);
    return NULL;
}

void keyring_free(struct keyring *k)
{
    if (!k)
        return;
    k->closing = true;
    redis_free(k->listener);
    for (struct entry *e = k->newest, *next; e; e = next) {
        next = e->older;
        bool asking = e->asking;
        answer(e, UNAVAILABLE);
        e->asking = asking; /* its reply is still to come, and frees it */
        if (!asking)
            drop(k, e);
    }
    finish_closing(k);
}

void keyring_find(struct keyring *k, const char *key, size_t len, keyring_fn *fn, void *arg)
{
    uint8_t hash[SHA256_BYTES];
    crypto_sha256(key, len, hash);
    struct entry *e = find(k, hash);
    if (e && fresh(k, e, loop_now_ms(k->loop))) {
        list_remove(k, e);
        list_push(k, e);
        call(e, judge(e), fn, arg);
        return;
    }
    /* A malformed key takes the path of an unknown one, so that time tells nothing of its form.
     * None at all is no secret. */
    if (len == 0) {
        fn(DENIED, NULL, arg);
        return;
    }
    struct waiter *w = malloc(sizeof *w);
    if (w && !e)
        e = add(k, hash);
    if (!w || !e) {
        free(w);
        fn(UNAVAILABLE, NULL, arg);
        return;
    }
    *w = (struct waiter){.fn = fn, .arg = arg};
    *e->last = w;
    e->last = &w->next;
    if (!e->asking)
        ask_redis(e);
}
