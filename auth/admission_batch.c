#include "auth/admission_batch.h"

#include <assert.h>
#include <math.h>

#include "base/buf.h"

enum { NAME_SIZE = 7 + UUID_TEXT_SIZE, AMOUNT_SIZE = 24, NAMES = SUBJECTS + 1 };
enum {
    /* '<HHHHds', three doubles, four names with a length byte */
    HOLD_BYTES_MAX = 8 + 8 + AMOUNT_SIZE + 24 + NAMES * (NAME_SIZE + 1),
    KEYS_MAX = 2 + (SUBJECTS + 1) * ADMIT_BATCH_MAX,
    ARGS_MAX = KEYS_MAX + 3 + 2 * ADMIT_BATCH_MAX,
    SLOTS = 2048, /* of the table that finds a subject again; above SUBJECTS * ADMIT_BATCH_MAX */
};

static const char *const state_prefix[SUBJECTS] = {"tg:a:k:", "tg:a:p:", "tg:a:t:"};

void ask_init(struct ask *ask, const struct admit_request *request, admit_fn *fn, void *arg)
{
    const struct key_record *k = request->key;
    *ask = (struct ask){
        .request_id = request->request_id,
        .subject_id = {k->key_id, k->project_id, k->tenant_id},
        .tokens = request->tokens > 0 ? request->tokens : 0,
        .hold_nano = request->hold_nano > 0 ? request->hold_nano : 0,
        .fn = fn,
        .arg = arg,
    };
    ask->prepaid = ask->hold_nano > 0;
    memcpy(ask->limits, k->limits, sizeof ask->limits);
}

bool ask_is_limited(const struct ask *ask, int subject)
{
    const struct limits *l = &ask->limits[subject];
    return l->requests_per_min || l->tokens_per_min || l->concurrency;
}

bool ask_needs_redis(const struct ask *ask)
{
    return ask->prepaid || ask_is_limited(ask, SUBJECT_KEY) ||
           ask_is_limited(ask, SUBJECT_PROJECT) || ask_is_limited(ask, SUBJECT_TENANT);
}

static double share_ms(int64_t per_min)
{
    return per_min ? (double)BUCKET_MS / (double)per_min : 0;
}

/* --- encoding --- */

struct admit_scratch {
    char names[KEYS_MAX][NAME_SIZE];
    char limits[SUBJECTS * ADMIT_BATCH_MAX][24];
    char holds[ADMIT_BATCH_MAX][HOLD_BYTES_MAX];
    const char *argv[ARGS_MAX];
    size_t lens[ARGS_MAX];
    int16_t slots[SLOTS];   /* subject + 1; 0: free */
    int16_t tenants[SLOTS]; /* balance + 1 */
    struct uuid tenant_ids[ADMIT_BATCH_MAX];
    int balance_count;
};

struct admit_scratch *admit_scratch_new(void)
{
    return calloc(1, sizeof(struct admit_scratch));
}

void admit_scratch_free(struct admit_scratch *s)
{
    free(s);
}

static size_t name_of(char out[NAME_SIZE], const char *prefix, const struct uuid *id)
{
    memcpy(out, prefix, strlen(prefix));
    uuid_format(id, out + strlen(prefix));
    return strlen(prefix) + UUID_TEXT_SIZE - 1;
}

static unsigned slot_of(const struct uuid *id, int kind)
{
    uint32_t h;
    memcpy(&h, id->bytes + 12, sizeof h); /* the random end of a UUIDv7 */
    return (h * 2654435761u + (unsigned)kind * 40503u) >> 16;
}

static int16_t find_subject(struct admit_batch *b, struct admit_scratch *scratch,
                            const struct ask *ask, int kind)
{
    const struct uuid *id = &ask->subject_id[kind];
    for (unsigned at = slot_of(id, kind);; at++) {
        int16_t *slot = &scratch->slots[at % SLOTS];
        if (!*slot) {
            b->subjects[b->subject_count] =
                (struct batch_subject){.id = *id, .kind = kind, .limits = ask->limits[kind]};
            *slot = (int16_t)++b->subject_count;
            return (int16_t)(*slot - 1);
        }
        struct batch_subject *s = &b->subjects[*slot - 1];
        if (s->kind == kind && uuid_equal(&s->id, id)) {
            s->limits = ask->limits[kind]; /* the newest record wins */
            return (int16_t)(*slot - 1);
        }
    }
}

static int find_balance(struct admit_scratch *scratch, const struct uuid *tenant)
{
    for (unsigned at = slot_of(tenant, 0);; at++) {
        int16_t *slot = &scratch->tenants[at % SLOTS];
        if (!*slot) {
            scratch->tenant_ids[scratch->balance_count] = *tenant;
            *slot = (int16_t)++scratch->balance_count;
            return *slot - 1;
        }
        if (uuid_equal(&scratch->tenant_ids[*slot - 1], tenant))
            return *slot - 1;
    }
}

static void find_subjects(struct admit_batch *b, struct admit_scratch *scratch)
{
    b->subject_count = 0;
    for (int i = 0; i < b->count; i++)
        for (int kind = 0; kind < SUBJECTS; kind++)
            b->place[i][kind] = ask_is_limited(&b->asks[i], kind)
                                    ? find_subject(b, scratch, &b->asks[i], kind)
                                    : -1;
}

static size_t put_name(char *out, const char *prefix, const struct uuid *id)
{
    char name[NAME_SIZE];
    size_t n = id ? name_of(name, prefix, id) : 0;
    out[0] = (char)n;
    memcpy(out + 1, name, n);
    return n + 1;
}

/* The hold of one request, as the two scripts read it. balance: its place in KEYS, 0: none. */
static size_t put_hold(char *out, const struct admit_batch *b, int i, int balance)
{
    const struct ask *ask = &b->asks[i];
    uint16_t places[NAMES] = {[SUBJECTS] = (uint16_t)balance};
    for (int kind = 0; kind < SUBJECTS; kind++)
        places[kind] = b->place[i][kind] < 0 ? 0 : (uint16_t)(b->place[i][kind] + 3);
    char *p = out;
    memcpy(p, places, sizeof places);
    p += sizeof places;
    double tokens = (double)ask->tokens;
    memcpy(p, &tokens, sizeof tokens);
    p += sizeof tokens;
    p += snprintf(p, AMOUNT_SIZE, "%lld", (long long)ask->hold_nano) + 1;
    for (int kind = 0; kind < SUBJECTS; kind++, p += sizeof(double)) {
        double ms = places[kind] ? share_ms(ask->limits[kind].tokens_per_min) : 0;
        memcpy(p, &ms, sizeof ms);
    }
    for (int kind = 0; kind < SUBJECTS; kind++)
        p += put_name(p, state_prefix[kind], places[kind] ? &ask->subject_id[kind] : NULL);
    p += put_name(p, "tg:b:", balance ? &ask->subject_id[SUBJECT_TENANT] : NULL);
    assert((size_t)(p - out) <= HOLD_BYTES_MAX);
    return (size_t)(p - out);
}

static void add_arg(struct admit_scratch *scratch, int *argc, const char *text, size_t len)
{
    scratch->argv[*argc] = text;
    scratch->lens[(*argc)++] = len;
}

static void add_state_keys(struct admit_batch *b, struct admit_scratch *scratch, int *argc)
{
    for (int i = 0; i < b->subject_count; i++) {
        const struct batch_subject *s = &b->subjects[i];
        double limits[3] = {share_ms(s->limits.requests_per_min),
                            share_ms(s->limits.tokens_per_min), (double)s->limits.concurrency};
        memcpy(scratch->limits[i], limits, sizeof limits);
        size_t n = name_of(scratch->names[*argc], state_prefix[s->kind], &s->id);
        add_arg(scratch, argc, scratch->names[*argc], n);
    }
}

static void add_balance_keys(const struct admit_batch *b, struct admit_scratch *scratch,
                             int balance_of[], int *argc)
{
    for (int i = 0; i < b->count; i++) {
        const struct ask *ask = &b->asks[i];
        balance_of[i] = 0;
        if (ask->prepaid)
            balance_of[i] =
                3 + b->subject_count + find_balance(scratch, &ask->subject_id[SUBJECT_TENANT]);
    }
    for (int i = 0; i < scratch->balance_count; i++) {
        size_t n = name_of(scratch->names[*argc], "tg:b:", &scratch->tenant_ids[i]);
        add_arg(scratch, argc, scratch->names[*argc], n);
    }
}

void admit_batch_send(struct admit_batch *b, struct admit_scratch *scratch,
                      const struct admit_target *target, redis_fn *fn)
{
    memset(scratch->slots, 0, sizeof scratch->slots);
    memset(scratch->tenants, 0, sizeof scratch->tenants);
    scratch->balance_count = 0;
    find_subjects(b, scratch);
    int argc = 0;
    int balance_of[ADMIT_BATCH_MAX];
    add_arg(scratch, &argc, target->holds_key, strlen(target->holds_key));
    add_arg(scratch, &argc, target->fence_key, strlen(target->fence_key));
    add_state_keys(b, scratch, &argc);
    add_balance_keys(b, scratch, balance_of, &argc);
    int keys = argc;
    char count_text[16], fence_text[24];
    int n = snprintf(count_text, sizeof count_text, "%d", b->subject_count);
    add_arg(scratch, &argc, count_text, (size_t)n);
    n = snprintf(fence_text, sizeof fence_text, "%lld", (long long)target->fence);
    add_arg(scratch, &argc, fence_text, (size_t)n);
    add_arg(scratch, &argc, scratch->limits[0],
            (size_t)b->subject_count * sizeof scratch->limits[0]);
    for (int i = 0; i < b->count; i++) {
        add_arg(scratch, &argc, (const char *)b->asks[i].request_id.bytes, 16);
        add_arg(scratch, &argc, scratch->holds[i],
                put_hold(scratch->holds[i], b, i, balance_of[i]));
    }
    redis_eval(target->redis, target->admit, keys, argc, scratch->argv, scratch->lens, fn, b);
}

/* --- results --- */

static int64_t whole(double x)
{
    return x > 0 ? (int64_t)ceil(x) : 0;
}

/* How long until `cost_ms` more fits into the bucket. Never, if it is above the bucket: then a
 * whole bucket's time, and the limit in the result says the rest. */
static int64_t retry_of(double full_ms, double cost_ms, double now_ms)
{
    double wait = full_ms + cost_ms - now_ms - BUCKET_MS;
    if (wait > BUCKET_MS)
        wait = BUCKET_MS;
    return wait > 1 ? whole(wait) : 1;
}

static void fill_tightest(int64_t limit, double full_ms, double now_ms, int64_t *out_limit,
                          int64_t *out_left, int64_t *out_reset_ms)
{
    if (!limit)
        return;
    double used_ms = full_ms > now_ms ? full_ms - now_ms : 0;
    double left = floor((BUCKET_MS - used_ms) / share_ms(limit) + 1e-6);
    int64_t remaining = left > 0 ? (int64_t)left : 0;
    if (*out_limit && *out_left <= remaining)
        return;
    *out_limit = limit;
    *out_left = remaining;
    *out_reset_ms = whole(used_ms);
}

static int64_t retry_for(const struct ask *ask, enum admit_verdict verdict, int subject,
                         double now_ms, const struct subject_state *s)
{
    enum { BUSY_RETRY_MS = 1000 };
    const struct limits *l = &ask->limits[subject];
    if (verdict == ADMIT_RATE_REQUESTS && s)
        return retry_of(s->requests_full_ms, share_ms(l->requests_per_min), now_ms);
    if (verdict == ADMIT_RATE_TOKENS && s)
        return retry_of(s->tokens_full_ms, (double)ask->tokens * share_ms(l->tokens_per_min),
                        now_ms);
    return verdict == ADMIT_CONCURRENCY ? BUSY_RETRY_MS : 0;
}

void admit_result_fill(const struct ask *ask, int verdict, double now_ms,
                       const struct subject_state *const states[SUBJECTS], struct admit_result *out)
{
    int subject = verdict / 16 % SUBJECTS;
    *out = (struct admit_result){.verdict = (enum admit_verdict)(verdict % 16),
                                 .subject = (enum limit_subject)subject};
    for (int kind = 0; kind < SUBJECTS; kind++) {
        const struct subject_state *s = states[kind];
        if (!s)
            continue;
        fill_tightest(ask->limits[kind].requests_per_min, s->requests_full_ms, now_ms,
                      &out->requests_limit, &out->requests_remaining, &out->requests_reset_ms);
        fill_tightest(ask->limits[kind].tokens_per_min, s->tokens_full_ms, now_ms,
                      &out->tokens_limit, &out->tokens_remaining, &out->tokens_reset_ms);
    }
    out->retry_ms = retry_for(ask, out->verdict, subject, now_ms, states[subject]);
    if (out->verdict == ADMIT_UNAVAILABLE)
        out->retry_ms = 1000;
}

bool admit_batch_answer(struct admit_batch *b, const char *reply, size_t len)
{
    double now_ms;
    size_t states_at = sizeof now_ms + (size_t)b->count;
    if (len != states_at + (size_t)b->subject_count * sizeof(struct subject_state))
        return false;
    memcpy(&now_ms, reply, sizeof now_ms);
    const char *verdicts = reply + sizeof now_ms;
    struct subject_state states[SUBJECTS];
    for (int i = 0; i < b->count; i++) {
        const struct subject_state *of[SUBJECTS] = {NULL};
        for (int kind = 0; kind < SUBJECTS; kind++) {
            if (b->place[i][kind] < 0)
                continue;
            memcpy(&states[kind],
                   reply + states_at + (size_t)b->place[i][kind] * sizeof states[kind],
                   sizeof states[kind]);
            of[kind] = &states[kind];
        }
        struct admit_result result;
        admit_result_fill(&b->asks[i], (unsigned char)verdicts[i], now_ms, of, &result);
        result.held = result.verdict == ADMIT_OK;
        b->asks[i].fn(&result, b->asks[i].arg);
    }
    return true;
}

void settle_batch_send(const struct admit_target *target, const struct settle_item *items,
                       int count, redis_fn *fn, void *arg)
{
    static _Thread_local char numbers[SETTLE_BATCH_MAX][2][AMOUNT_SIZE];
    const char *argv[1 + 3 * SETTLE_BATCH_MAX] = {target->holds_key};
    size_t lens[1 + 3 * SETTLE_BATCH_MAX] = {strlen(target->holds_key)};
    assert(count <= SETTLE_BATCH_MAX);
    int argc = 1;
    for (int i = 0; i < count; i++) {
        int64_t values[2] = {items[i].tokens, items[i].cost_nano};
        argv[argc] = (const char *)items[i].request_id.bytes;
        lens[argc++] = 16;
        for (int k = 0; k < 2; k++) {
            int n = snprintf(numbers[i][k], AMOUNT_SIZE, "%lld",
                             values[k] > 0 ? (long long)values[k] : 0);
            argv[argc] = numbers[i][k];
            lens[argc++] = (size_t)n;
        }
    }
    redis_eval(target->redis, target->settle, 1, argc, argv, lens, fn, arg);
}
