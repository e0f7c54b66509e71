/*
 * Admission alone, against a Redis: requests admitted and settled a second, and the processor
 * time that the Redis server spends on each, beside the same for an INCR. Run by
 * bench/admission.sh.
 */
#include <unistd.h>

#include "auth/admission.h"
#include "base/clock.h"

enum { KEYS_MAX = 10000, WAVE_MAX = 1024 };

static struct loop *loop;
static struct redis *redis;
static struct redis_sync *direct;
static struct admission *admission;
static struct key_record *keys;

/* One measurement. A wave of requests is under way at any time, as from that many clients. */
struct run {
    const char *name;
    int key_count;
    bool prepaid;
    bool limited[SUBJECTS];
    int wave;
    int64_t left, under_way, refused;
};
static struct run run;

struct slot {
    struct uuid id;
    const struct key_record *key;
};
static struct slot slots[WAVE_MAX];

static double info_seconds(const char *field)
{
    struct error err;
    const struct redis_reply *r =
        redis_sync_command(direct, 2, (const char *const[]){"INFO", "cpu"}, NULL, &err);
    const char *at = r && r->text ? strstr(r->text, field) : NULL;
    return at ? strtod(at + strlen(field) + 1, NULL) : 0;
}

static double server_seconds(void)
{
    return info_seconds("used_cpu_user_main_thread") + info_seconds("used_cpu_sys_main_thread");
}

static void next_call(struct slot *s);

static void end_one(void)
{
    if (--run.under_way == 0)
        loop_stop(loop);
}

static void on_admit(const struct admit_result *result, void *arg)
{
    struct slot *s = arg;
    if (result->verdict != ADMIT_OK || result->local)
        run.refused++;
    if (result->held) {
        struct settle_request settle = {.request_id = s->id, .tokens = 300, .cost_nano = 30};
        admission_settle(admission, &settle);
    }
    if (run.left > 0)
        next_call(s);
    else
        end_one();
}

static void next_call(struct slot *s)
{
    s->key = &keys[run.left-- % run.key_count];
    s->id = uuid_v7(clock_wall_ms());
    struct admit_request ask = {.request_id = s->id, .key = s->key, .tokens = 500};
    ask.hold_nano = run.prepaid ? 50 : 0;
    admission_ask(admission, &ask, on_admit, s);
}

static void on_incr(enum status st, const struct redis_reply *reply, void *arg)
{
    static const char *const incr[] = {"INCR", "bench"};
    run.refused += st != OK;
    if (run.left-- > 0)
        redis_command(redis, on_incr, NULL, 2, incr, NULL);
    else
        end_one();
}

static void make_keys(void)
{
    struct error err;
    struct uuid project = uuid_v7(clock_wall_ms()), tenant = uuid_v7(clock_wall_ms());
    for (int i = 0; i < run.key_count; i++) {
        struct key_record *k = &keys[i];
        memset(k, 0, sizeof *k);
        k->key_id = uuid_v7(clock_wall_ms());
        k->project_id = project;
        k->tenant_id = tenant;
        for (int s = 0; s < SUBJECTS; s++)
            if (run.limited[s])
                k->limits[s] = (struct limits){1000000000, 1000000000000, 1000000};
    }
    char name[64] = "tg:b:";
    uuid_format(&tenant, name + 5);
    redis_sync_command(direct, 3, (const char *const[]){"SET", name, "1000000000000000"}, NULL,
                       &err);
}

static void drain(void *arg)
{
    loop_stop(loop);
}

/* Returns the server's microseconds for one call. */
static double measure(const struct run *what, int64_t calls, double *per_second)
{
    run = *what;
    run.left = calls;
    bool incr = run.key_count == 0;
    if (!incr)
        make_keys();
    double cpu = server_seconds();
    int64_t start_us = clock_mono_us();
    run.under_way = run.wave;
    for (int i = 0; i < run.wave; i++) {
        if (incr)
            on_incr(OK, NULL, NULL);
        else
            next_call(&slots[i]);
    }
    loop_run(loop);
    while (admission_pending(admission)) {
        struct loop_timer *t = loop_timer_new(loop, drain, NULL);
        loop_timer_start(t, 1);
        loop_run(loop);
        loop_timer_free(t);
    }
    double us = (server_seconds() - cpu) * 1e6 / (double)calls;
    *per_second = (double)calls * 1e6 / (double)(clock_mono_us() - start_us);
    if (run.refused)
        printf("  %lld of the calls were refused: the figures do not count\n",
               (long long)run.refused);
    return us;
}

static void measure_all(int64_t calls)
{
    static const struct run runs[] = {
        {.name = "key limited, 1 key", .key_count = 1, .limited = {true}},
        {.name = "key, project, tenant limited, 1 key",
         .key_count = 1,
         .limited = {true, true, true}},
        {.name = "all limited, prepaid, 1 key",
         .key_count = 1,
         .prepaid = true,
         .limited = {true, true, true}},
        {.name = "all limited, prepaid, 10,000 keys",
         .key_count = KEYS_MAX,
         .prepaid = true,
         .limited = {true, true, true}},
    };
    static const int waves[] = {1, 32, 256};
    printf("%-38s %6s %12s %14s %10s\n", "", "wave", "a second", "server us each", "x INCR");
    for (size_t w = 0; w < sizeof waves / sizeof *waves; w++) {
        double per_second, incr_us;
        incr_us = measure(&(struct run){.wave = waves[w]}, calls * 4, &per_second);
        printf("%-38s %6d %12.0f %14.2f %10.1f\n", "INCR", waves[w], per_second, incr_us, 1.0);
        for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
            struct run r = runs[i];
            r.wave = waves[w];
            double us = measure(&r, calls, &per_second);
            printf("%-38s %6d %12.0f %14.2f %10.1f\n", r.name, r.wave, per_second, us,
                   us / incr_us);
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_admission REDIS_URL [CALLS]\n");
        return 2;
    }
    int64_t calls = argc > 2 ? strtoll(argv[2], NULL, 10) : 50000;
    struct error err = {""};
    struct redis_options options = {
        .url = argv[1], .connect_timeout_ms = 2000, .command_timeout_ms = 10000};
    struct uuid gateway = uuid_v7(clock_wall_ms());
    loop = loop_new(&err);
    redis = loop ? redis_new(loop, &options, &err) : NULL;
    direct = redis ? redis_sync_new(&options, &err) : NULL;
    admission = direct ? admission_new(loop, redis, &gateway, &err) : NULL;
    keys = calloc(KEYS_MAX, sizeof *keys);
    if (!admission || !keys || calls < 1) {
        fprintf(stderr, "bench_admission: %s\n", err.text);
        return 1;
    }
    measure_all(calls);
    admission_free(admission);
    redis_free(redis);
    redis_sync_free(direct);
    loop_free(loop);
    free(keys);
    return 0;
}
