#include "auth/admission.h"

#include "auth/admission_batch.h"
#include "auth/admission_local.h"
#include "auth/embed.h"
#include "base/clock.h"

enum {
    SHARE_DIVISOR = 4,
    SETTLES_MAX = 131072,    /* waiting to be sent; a power of two */
    SETTLE_BATCHES_MAX = 16, /* under way at once */
    SETTLE_RETRY_MS = 200,
    SPARE_BATCHES_MAX = 4,
};

struct settle_batch {
    struct admission *owner; /* NULL: gone meanwhile */
    struct settle_batch *next, *prev;
    int count;
    struct settle_item items[SETTLE_BATCH_MAX];
};

/* Raises the fence in Redis. */
struct fence_call {
    struct admission *owner; /* NULL: gone meanwhile */
};

struct admission {
    struct loop *loop;
    struct admit_target target;
    struct admit_scratch *scratch;
    struct local_share *local;
    struct admit_batch *filling; /* this turn's; NULL: none yet */
    struct admit_batch *under_way, *spare;
    int spare_count;
    struct fence_call *fencing;  /* NULL: none under way */
    bool down;                   /* Redis was away when last looked at */
    bool fence_needed;           /* an admission of an earlier connection may yet be carried out */
    struct settle_item *settles; /* a ring */
    unsigned settle_first, settle_count;
    struct settle_batch *settling;
    int settling_batches, settling_items;
    struct loop_timer *retry;
    int64_t retry_at_ms;
};

static void send_turn(void *arg);

static void retry_due(void *arg)
{
    /* The hook at the end of this turn does the work. */
}

static const char *script_text(const char *name)
{
    for (const struct embedded_file *f = embedded_scripts; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f->text;
    abort(); /* a program without its scripts was not built by our CMakeLists.txt */
}

struct admission *admission_new(struct loop *loop, struct redis *redis,
                                const struct uuid *gateway_id, struct error *err)
{
    struct admission *a = calloc(1, sizeof *a);
    if (!a)
        goto no_memory;
    a->loop = loop;
    a->target.redis = redis;
    a->target.admit = redis_script_new(script_text("admit.lua"));
    a->target.settle = redis_script_new(script_text("settle.lua"));
    a->scratch = admit_scratch_new();
    a->local = local_share_new(SHARE_DIVISOR);
    a->settles = calloc(SETTLES_MAX, sizeof *a->settles);
    a->retry = loop_timer_new(loop, retry_due, a);
    if (!a->target.admit || !a->target.settle || !a->scratch || !a->local || !a->settles ||
        !a->retry)
        goto no_memory;
    char id[UUID_TEXT_SIZE];
    uuid_format(gateway_id, id);
    snprintf(a->target.holds_key, sizeof a->target.holds_key, "tg:h:%s", id);
    struct uuid instance = uuid_v7(clock_wall_ms());
    uuid_format(&instance, id);
    snprintf(a->target.fence_key, sizeof a->target.fence_key, "tg:f:%s", id);
    loop_hook(loop, LOOP_PHASE_CALLS, send_turn, a);
    return a;
no_memory:
    error_set(err, NOMEM, "out of memory for admission");
    admission_free(a);
    return NULL;
}

void admission_set_share(struct admission *a, int divisor)
{
    local_share_set(a->local, divisor > 0 ? divisor : 1);
}

static void refuse_all(struct admit_batch *b)
{
    struct admit_result result = {.verdict = ADMIT_UNAVAILABLE, .retry_ms = 1000};
    for (int i = 0; i < b->count; i++)
        b->asks[i].fn(&result, b->asks[i].arg);
}

void admission_free(struct admission *a)
{
    if (!a)
        return;
    if (a->retry)
        loop_unhook(a->loop, LOOP_PHASE_CALLS, send_turn, a);
    if (a->filling)
        refuse_all(a->filling);
    free(a->filling);
    /* Redis still owes these an answer; it finds them without an owner. */
    for (struct admit_batch *b = a->under_way, *next; b; b = next) {
        next = b->next;
        b->owner = NULL;
        refuse_all(b);
    }
    for (struct settle_batch *s = a->settling; s; s = s->next)
        s->owner = NULL;
    if (a->fencing)
        a->fencing->owner = NULL;
    while (a->spare) {
        struct admit_batch *b = a->spare;
        a->spare = b->next;
        free(b);
    }
    loop_timer_free(a->retry);
    local_share_free(a->local);
    admit_scratch_free(a->scratch);
    redis_script_free(a->target.admit);
    redis_script_free(a->target.settle);
    free(a->settles);
    free(a);
}

/* --- settling --- */

static bool queue_settle(struct admission *a, const struct settle_item *item)
{
    if (a->settle_count >= SETTLES_MAX)
        return false; /* the rebuild from the ledger mends what this one would have */
    if (a->settle_count == 0)
        loop_again(a->loop); /* we may be past this turn's hook */
    a->settles[(a->settle_first + a->settle_count++) % SETTLES_MAX] = *item;
    return true;
}

static void on_settled(enum status st, const struct redis_reply *reply, void *arg)
{
    struct settle_batch *s = arg;
    struct admission *a = s->owner;
    if (!a) {
        free(s);
        return;
    }
    if (s->prev)
        s->prev->next = s->next;
    else
        a->settling = s->next;
    if (s->next)
        s->next->prev = s->prev;
    a->settling_batches--;
    a->settling_items -= s->count;
    if (st != OK || reply->type != REDIS_INT) {
        for (int i = 0; i < s->count; i++)
            queue_settle(a, &s->items[i]);
        a->retry_at_ms = loop_now_ms(a->loop) + SETTLE_RETRY_MS;
    }
    free(s);
}

/* false: nothing more can be sent now. */
static bool send_settles(struct admission *a)
{
    struct settle_batch *s = a->settling_batches < SETTLE_BATCHES_MAX ? malloc(sizeof *s) : NULL;
    if (!s)
        return false;
    int count = a->settle_count < SETTLE_BATCH_MAX ? (int)a->settle_count : SETTLE_BATCH_MAX;
    for (int i = 0; i < count; i++)
        s->items[i] = a->settles[(a->settle_first + (unsigned)i) % SETTLES_MAX];
    a->settle_first = (a->settle_first + (unsigned)count) % SETTLES_MAX;
    a->settle_count -= (unsigned)count;
    s->owner = a;
    s->count = count;
    s->prev = NULL;
    s->next = a->settling;
    if (s->next)
        s->next->prev = s;
    a->settling = s;
    a->settling_batches++;
    a->settling_items += count;
    settle_batch_send(&a->target, s->items, count, on_settled, s);
    return true;
}

/* --- admitting --- */

static void answer_locally(struct admission *a, const struct ask *ask)
{
    struct admit_result result;
    local_share_ask(a->local, ask, loop_now_ms(a->loop), &result);
    ask->fn(&result, ask->arg);
}

static void recycle(struct admission *a, struct admit_batch *b)
{
    if (a->spare_count >= SPARE_BATCHES_MAX) {
        free(b);
        return;
    }
    b->next = a->spare;
    a->spare = b;
    a->spare_count++;
}

/* Redis did not admit these, or it is not known whether it did: then what it may hold, or hold
 * later, is released. */
static void fall_back(struct admission *a, struct admit_batch *b, enum status st)
{
    if (st != UNAVAILABLE)
        for (int i = 0; i < b->count; i++)
            queue_settle(a, &(struct settle_item){.request_id = b->asks[i].request_id});
    if (st == TIMED_OUT || st == CLOSED)
        a->fence_needed = true;
    a->down = true;
    for (int i = 0; i < b->count; i++)
        answer_locally(a, &b->asks[i]);
}

static void on_admitted(enum status st, const struct redis_reply *reply, void *arg)
{
    struct admit_batch *b = arg;
    struct admission *a = b->owner;
    if (!a) {
        free(b);
        return;
    }
    if (b->prev)
        b->prev->next = b->next;
    else
        a->under_way = b->next;
    if (b->next)
        b->next->prev = b->prev;
    if (st != OK || reply->type != REDIS_STRING || !admit_batch_answer(b, reply->text, reply->len))
        fall_back(a, b, st);
    recycle(a, b);
}

static void send_batch(struct admission *a)
{
    struct admit_batch *b = a->filling;
    a->filling = NULL;
    b->owner = a;
    b->prev = NULL;
    b->next = a->under_way;
    if (b->next)
        b->next->prev = b;
    a->under_way = b;
    admit_batch_send(b, a->scratch, &a->target, on_admitted);
}

static void on_fence(enum status st, const struct redis_reply *reply, void *arg)
{
    struct fence_call *call = arg;
    if (call->owner) {
        call->owner->fencing = NULL;
        call->owner->fence_needed |= st != OK || reply->type == REDIS_ERROR;
    }
    free(call);
}

/* A server that was stopped may still carry out what an older connection sent it. From here on
 * it refuses that; so a hold released now cannot come back. */
static void send_fence(struct admission *a)
{
    struct fence_call *call = malloc(sizeof *call);
    if (!call)
        return;
    call->owner = a;
    a->fencing = call;
    a->fence_needed = false;
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)++a->target.fence);
    const char *const argv[] = {"SET", a->target.fence_key, text, "EX", "86400"};
    redis_command(a->target.redis, on_fence, call, 5, argv, NULL);
}

/* The end of a turn: the fence if one is due, then admissions, then settlements. */
static void send_turn(void *arg)
{
    struct admission *a = arg;
    bool connected = redis_state(a->target.redis) == REDIS_CONNECTED;
    if (a->fence_needed && connected && !a->fencing)
        send_fence(a);
    if (a->filling)
        send_batch(a);
    int64_t now_ms = a->settle_count ? loop_now_ms(a->loop) : 0;
    while (a->settle_count && connected && !a->fence_needed && now_ms >= a->retry_at_ms)
        if (!send_settles(a))
            break;
    if (a->settle_count && a->settling_batches == 0)
        loop_timer_start(a->retry, SETTLE_RETRY_MS);
}

static struct admit_batch *new_batch(struct admission *a)
{
    struct admit_batch *b = a->spare;
    if (b) {
        a->spare = b->next;
        a->spare_count--;
    } else {
        b = malloc(sizeof *b);
    }
    if (b)
        b->count = 0;
    return b;
}

/* Before the first connection, requests wait for it; later ones do not wait for a server that is
 * known to be away. */
static bool is_down(struct admission *a)
{
    enum redis_state state = redis_state(a->target.redis);
    if (state == REDIS_BROKEN)
        a->down = true;
    else if (state == REDIS_CONNECTED)
        a->down = false;
    return a->down;
}

void admission_ask(struct admission *a, const struct admit_request *request, admit_fn *fn,
                   void *arg)
{
    struct ask ask;
    ask_init(&ask, request, fn, arg);
    if (!ask_needs_redis(&ask)) {
        fn(&(struct admit_result){.verdict = ADMIT_OK}, arg);
        return;
    }
    if (is_down(a) || (!a->filling && !(a->filling = new_batch(a)))) {
        answer_locally(a, &ask);
        return;
    }
    if (a->filling->count == 0)
        loop_again(a->loop);
    a->filling->asks[a->filling->count++] = ask;
    if (a->filling->count == ADMIT_BATCH_MAX)
        send_batch(a);
}

void admission_settle(struct admission *a, const struct settle_request *request)
{
    if (local_share_settle(a->local, &request->request_id, request->tokens))
        return;
    queue_settle(a, &(struct settle_item){.request_id = request->request_id,
                                          .tokens = request->tokens,
                                          .cost_nano = request->cost_nano});
}

int admission_pending(const struct admission *a)
{
    return (int)a->settle_count + a->settling_items;
}
