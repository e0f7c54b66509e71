/*
 * The loops of one gateway, each on its thread with its own connection, on one balance and one
 * limit: what they admit together is what one would, and nothing remains held.
 */
#include "auth/admission.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"
#include "tests/unit/own_redis.h"

enum { LOOPS = 3, EACH = 1000, PRICE = 7, AFFORDABLE = 1234, PLACES = 50 };

static struct own_redis server;
static struct uuid gateway_id;
static struct key_record prepaid, crowded;

struct side {
    pthread_t thread;
    struct loop *loop;
    struct admission *admission;
    int answers, paid, entered;
    bool settling, stopping;
};

struct one {
    struct side *side;
    struct uuid id;
    bool held;
};

static void on_paid(const struct admit_result *result, void *arg)
{
    struct one *o = arg;
    o->side->paid += result->verdict == ADMIT_OK;
    o->held = result->held;
    o->side->answers++;
}

static void on_entered(const struct admit_result *result, void *arg)
{
    struct one *o = arg;
    o->side->entered += result->verdict == ADMIT_OK;
    o->held = result->held;
    o->side->answers++;
}

static void tick(void *arg)
{
    struct side *s = arg;
    bool asked = !s->settling && s->answers == 2 * EACH;
    bool settled = s->settling && admission_pending(s->admission) == 0;
    if ((asked || settled) && !s->stopping)
        loop_stop(s->loop); /* takes effect in the next turn: once is enough */
    s->stopping = asked || settled;
}

static void *run_side(void *arg)
{
    struct side *s = arg;
    struct error err = {""};
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 5000, .command_timeout_ms = 20000};
    s->loop = loop_new(&err);
    struct redis *redis = s->loop ? redis_new(s->loop, &options, &err) : NULL;
    s->admission = redis ? admission_new(s->loop, redis, &gateway_id, &err) : NULL;
    struct one *all = calloc(2 * EACH, sizeof *all);
    if (!s->admission || !all)
        abort();
    loop_hook(s->loop, LOOP_PHASE_REAP, tick, s);
    for (int i = 0; i < 2 * EACH; i++) {
        bool pays = i % 2;
        all[i] = (struct one){.side = s, .id = uuid_v7(clock_wall_ms())};
        struct admit_request ask = {.request_id = all[i].id,
                                    .key = pays ? &prepaid : &crowded,
                                    .tokens = 1,
                                    .hold_nano = pays ? PRICE : 0};
        admission_ask(s->admission, &ask, pays ? on_paid : on_entered, &all[i]);
    }
    loop_run(s->loop);
    s->settling = true;
    s->stopping = false;
    for (int i = 0; i < 2 * EACH; i++) {
        struct settle_request settle = {.request_id = all[i].id, .cost_nano = i % 2 ? PRICE : 0};
        if (all[i].held)
            admission_settle(s->admission, &settle);
    }
    loop_run(s->loop);
    admission_free(s->admission);
    redis_free(redis);
    loop_free(s->loop);
    free(all);
    return NULL;
}

static void make_key(struct key_record *k)
{
    k->key_id = uuid_v7(clock_wall_ms());
    k->project_id = uuid_v7(clock_wall_ms());
    k->tenant_id = uuid_v7(clock_wall_ms());
}

int main(void)
{
    own_redis_start(&server);
    gateway_id = uuid_v7(clock_wall_ms());
    make_key(&prepaid);
    make_key(&crowded);
    crowded.limits[SUBJECT_PROJECT].concurrency = PLACES;
    struct error err = {""};
    struct redis_options options = {
        .url = server.url, .connect_timeout_ms = 5000, .command_timeout_ms = 5000};
    struct redis_sync *direct = redis_sync_new(&options, &err);
    CHECK_FATAL(direct);
    char name[64] = "tg:b:", nano[32];
    uuid_format(&prepaid.tenant_id, name + 5);
    snprintf(nano, sizeof nano, "%d", AFFORDABLE * PRICE + PRICE - 1);
    CHECK(redis_sync_command(direct, 3, (const char *const[]){"SET", name, nano}, NULL, &err));

    static struct side sides[LOOPS];
    for (int i = 0; i < LOOPS; i++)
        CHECK_FATAL(pthread_create(&sides[i].thread, NULL, run_side, &sides[i]) == 0);
    int paid = 0, entered = 0;
    for (int i = 0; i < LOOPS; i++) {
        pthread_join(sides[i].thread, NULL);
        paid += sides[i].paid;
        entered += sides[i].entered;
    }
    CHECK_INT(paid, AFFORDABLE);
    CHECK(entered >= PLACES); /* a place left early is another's */
    const struct redis_reply *r =
        redis_sync_command(direct, 2, (const char *const[]){"GET", name}, NULL, &err);
    CHECK(r && r->text && strtol(r->text, NULL, 10) == PRICE - 1);
    memcpy(name, "tg:h:", 5);
    uuid_format(&gateway_id, name + 5);
    r = redis_sync_command(direct, 2, (const char *const[]){"HLEN", name}, NULL, &err);
    CHECK(r && r->integer == 0);
    memcpy(name, "tg:a:p:", 7);
    uuid_format(&crowded.project_id, name + 7);
    r = redis_sync_command(direct, 2, (const char *const[]){"GET", name}, NULL, &err);
    double running = -1;
    if (r && r->len == 24)
        memcpy(&running, r->text + 16, sizeof running);
    CHECK_INT(running, 0);
    redis_sync_free(direct);
    own_redis_end(&server);
    return check_done();
}
