#include "auth/admission_local.h"

/* Powers of two; both tables are kept at most three quarters full. */
enum { BUCKETS = 16384, HOLDS = 65536 };

struct bucket {
    struct uuid id; /* nil: free */
    int kind;
    struct subject_state state;
};

struct local_hold {
    struct uuid request_id; /* nil: free */
    struct uuid subject_id[SUBJECTS];
    bool limited[SUBJECTS];
    int64_t tokens;
    double token_ms[SUBJECTS];
};

struct local_share {
    int divisor;
    int bucket_count, hold_count;
    struct bucket *buckets;
    struct local_hold *holds;
};

struct local_share *local_share_new(int divisor)
{
    struct local_share *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->divisor = divisor;
    l->buckets = calloc(BUCKETS, sizeof *l->buckets);
    l->holds = calloc(HOLDS, sizeof *l->holds);
    if (!l->buckets || !l->holds) {
        local_share_free(l);
        return NULL;
    }
    return l;
}

void local_share_free(struct local_share *l)
{
    if (!l)
        return;
    free(l->buckets);
    free(l->holds);
    free(l);
}

void local_share_set(struct local_share *l, int divisor)
{
    l->divisor = divisor;
}

static unsigned hash_of(const struct uuid *id)
{
    uint32_t h;
    memcpy(&h, id->bytes + 12, sizeof h);
    return (h * 2654435761u) >> 8;
}

static struct bucket *find_bucket(struct local_share *l, const struct uuid *id, int kind, bool add)
{
    for (unsigned at = hash_of(id) + (unsigned)kind;; at++) {
        struct bucket *b = &l->buckets[at % BUCKETS];
        if (b->kind == kind && uuid_equal(&b->id, id))
            return b;
        if (!uuid_is_nil(&b->id))
            continue;
        if (!add)
            return NULL;
        *b = (struct bucket){.id = *id, .kind = kind};
        l->bucket_count++;
        return b;
    }
}

static struct local_hold *find_hold(struct local_share *l, const struct uuid *id)
{
    for (unsigned at = hash_of(id);; at++) {
        struct local_hold *h = &l->holds[at % HOLDS];
        if (uuid_equal(&h->request_id, id) || uuid_is_nil(&h->request_id))
            return h;
    }
}

/* Takes a hold out and closes the gap it leaves in its run of slots. */
static void remove_hold(struct local_share *l, struct local_hold *hold)
{
    unsigned hole = (unsigned)(hold - l->holds);
    l->holds[hole].request_id = (struct uuid){{0}};
    l->hold_count--;
    for (unsigned at = (hole + 1) % HOLDS; !uuid_is_nil(&l->holds[at].request_id);
         at = (at + 1) % HOLDS) {
        unsigned home = hash_of(&l->holds[at].request_id) % HOLDS;
        if ((at - home) % HOLDS < (at - hole) % HOLDS)
            continue;
        l->holds[hole] = l->holds[at];
        l->holds[at].request_id = (struct uuid){{0}};
        hole = at;
    }
}

static int64_t share_of(const struct local_share *l, int64_t limit)
{
    return limit ? (limit + l->divisor - 1) / l->divisor : 0;
}

static void scale(const struct local_share *l, struct ask *ask)
{
    for (int kind = 0; kind < SUBJECTS; kind++) {
        struct limits *x = &ask->limits[kind];
        x->requests_per_min = share_of(l, x->requests_per_min);
        x->tokens_per_min = share_of(l, x->tokens_per_min);
        x->concurrency = share_of(l, x->concurrency);
    }
}

static double cost_ms(int64_t count, int64_t per_min)
{
    return per_min ? (double)count * BUCKET_MS / (double)per_min : 0;
}

/* 0, or the verdict of this subject; *wait the longest wait so far. */
static void check(const struct ask *ask, int kind, const struct subject_state *s, double now_ms,
                  int *verdict, double *wait)
{
    const struct limits *x = &ask->limits[kind];
    double full = now_ms + BUCKET_MS + 0.01;
    double over[4] = {
        [ADMIT_RATE_REQUESTS] = s->requests_full_ms + cost_ms(1, x->requests_per_min) - full,
        [ADMIT_RATE_TOKENS] = s->tokens_full_ms + cost_ms(ask->tokens, x->tokens_per_min) - full,
        [ADMIT_CONCURRENCY] = x->concurrency && s->running >= (double)x->concurrency ? 1 : 0,
    };
    bool has[4] = {[ADMIT_RATE_REQUESTS] = x->requests_per_min,
                   [ADMIT_RATE_TOKENS] = x->tokens_per_min,
                   [ADMIT_CONCURRENCY] = x->concurrency};
    for (int v = ADMIT_RATE_REQUESTS; v <= ADMIT_CONCURRENCY; v++) {
        if (has[v] && over[v] > *wait) {
            *wait = over[v];
            *verdict = v + 16 * kind;
        }
    }
}

static void take(struct local_share *l, const struct ask *ask, struct subject_state *const of[])
{
    struct local_hold *h = find_hold(l, &ask->request_id);
    if (uuid_is_nil(&h->request_id))
        l->hold_count++;
    *h = (struct local_hold){.request_id = ask->request_id, .tokens = ask->tokens};
    for (int kind = 0; kind < SUBJECTS; kind++) {
        if (!of[kind])
            continue;
        const struct limits *x = &ask->limits[kind];
        of[kind]->requests_full_ms += cost_ms(1, x->requests_per_min);
        of[kind]->tokens_full_ms += cost_ms(ask->tokens, x->tokens_per_min);
        of[kind]->running++;
        h->limited[kind] = true;
        h->subject_id[kind] = ask->subject_id[kind];
        h->token_ms[kind] = cost_ms(1, x->tokens_per_min);
    }
}

void local_share_ask(struct local_share *l, const struct ask *asked, int64_t now_ms,
                     struct admit_result *out)
{
    struct ask ask = *asked;
    scale(l, &ask);
    /* Full of idle subjects: forgetting them costs at most one more share of each limit. */
    if (l->bucket_count > BUCKETS * 3 / 4) {
        memset(l->buckets, 0, BUCKETS * sizeof *l->buckets);
        l->bucket_count = 0;
    }
    if (ask.prepaid || l->hold_count >= HOLDS * 3 / 4) {
        *out = (struct admit_result){.verdict = ADMIT_UNAVAILABLE, .retry_ms = 1000};
        return;
    }
    struct subject_state *of[SUBJECTS] = {NULL};
    int verdict = ADMIT_OK;
    double wait = 0;
    for (int kind = 0; kind < SUBJECTS; kind++) {
        if (!ask_is_limited(&ask, kind))
            continue;
        of[kind] = &find_bucket(l, &ask.subject_id[kind], kind, true)->state;
        if (of[kind]->requests_full_ms < (double)now_ms)
            of[kind]->requests_full_ms = (double)now_ms;
        if (of[kind]->tokens_full_ms < (double)now_ms)
            of[kind]->tokens_full_ms = (double)now_ms;
        check(&ask, kind, of[kind], (double)now_ms, &verdict, &wait);
    }
    if (verdict == ADMIT_OK)
        take(l, &ask, of);
    admit_result_fill(&ask, verdict, (double)now_ms, (const struct subject_state *const *)of, out);
    out->held = out->local = verdict == ADMIT_OK;
}

bool local_share_settle(struct local_share *l, const struct uuid *request_id, int64_t tokens)
{
    if (l->hold_count == 0)
        return false;
    struct local_hold *h = find_hold(l, request_id);
    if (uuid_is_nil(&h->request_id))
        return false;
    for (int kind = 0; kind < SUBJECTS; kind++) {
        if (!h->limited[kind])
            continue;
        struct bucket *b = find_bucket(l, &h->subject_id[kind], kind, false);
        if (!b)
            continue;
        b->state.tokens_full_ms -= (double)(h->tokens - tokens) * h->token_ms[kind];
        if (b->state.running > 0)
            b->state.running--;
    }
    remove_hold(l, h);
    return true;
}
