/*
 * Several choices of one request: they share the prompt's blocks, draw apart, and give everything
 * back however they end. And what a listener may ask of a pick: masks and log probabilities.
 */
#include "tests/unit/worker/sched.h"

enum { TOKENS = 24 };

static struct seen seen, alone;
static int32_t prompt[100];

static struct sched_request request(uint64_t id, uint32_t prompt_count, uint32_t choices)
{
    return (struct sched_request){
        .id = id,
        .prompt = prompt,
        .prompt_count = prompt_count,
        .max_tokens = TOKENS,
        .choices = choices,
        .sampling = {.temperature = 1.2f, .top_p = 0.95f, .seed = 99, .has_seed = true}};
}

static bool same(const struct seen_choice *a, const struct seen_choice *b)
{
    return a->count == b->count && memcmp(a->ids, b->ids, (size_t)a->count * sizeof *a->ids) == 0;
}

/* In a cache that has just the room: the prompt's full blocks once, the rest for each. Every
 * choice makes what a request with its seed makes alone. */
static void check_shared(struct model *m, uint32_t prompt_count)
{
    enum { CHOICES = SEEN_CHOICES };
    int each = (int)(prompt_count + TOKENS + 15) / 16, shared = (int)prompt_count / 16;
    struct sched_sizes sizes = {CHOICES, 32, each + (CHOICES - 1) * (each - shared), SPECULATE_OFF,
                                0};
    struct scheduler *s =
        sched_open(m, &alone, &(struct sched_sizes){1, 32, each, SPECULATE_OFF, 0});
    for (uint32_t c = 0; c < CHOICES; c++) {
        struct sched_request r = request(c, prompt_count, 1);
        r.sampling.seed = sampler_choice_seed(99, c);
        sched_submit(s, &r);
        sched_finish(s);
    }
    sched_close(s);
    s = sched_open(m, &seen, &sizes);
    struct sched_request r = request(0, prompt_count, CHOICES);
    sched_submit(s, &r);
    sched_finish(s);
    CHECK_INT(seen.ends, CHOICES);
    for (uint32_t c = 0; c < CHOICES; c++) {
        CHECK(seen.of[0].choice[c].how == SCHED_LENGTH);
        CHECK(same(&seen.of[0].choice[c], &alone.of[c].choice[0]));
        CHECK(c == 0 || !same(&seen.of[0].choice[c], &seen.of[0].choice[0]));
    }
    sched_close(s);
    sizes.blocks--;
    s = sched_open(m, &seen, &sizes);
    struct error err;
    CHECK(scheduler_submit(s, &r, &err) == INVALID);
    sched_close(s);
}

/* A cancel after any number of steps ends all choices and loses nothing; so does it when some
 * have stopped by themselves. A second request takes the first one's prompt from the cache. */
static void test_cancel(struct model *m)
{
    for (int steps = 0; steps < 12; steps++) {
        struct scheduler *s =
            sched_open(m, &seen, &(struct sched_sizes){8, 16, 60, SPECULATE_OFF, 0});
        struct sched_request r = request(0, 70, 3), other = request(1, 70, 2);
        r.cache_salt = other.cache_salt = (const uint8_t *)"s";
        r.cache_salt_len = other.cache_salt_len = 1;
        sched_submit(s, &r);
        for (int i = 0; i < steps; i++)
            scheduler_step(s);
        seen.of[0].stop_at = steps % 3 ? 0 : 7;
        sched_submit(s, &other);
        scheduler_step(s);
        scheduler_cancel(s, 0);
        scheduler_check(s);
        CHECK_INT(seen.ends, 3);
        for (int c = 0; c < 3; c++)
            CHECK(seen.of[0].choice[c].ended);
        sched_finish(s);
        CHECK_INT(seen.ends, 5);
        CHECK(seen.of[1].cached >= (steps >= 5 ? 64u : 0u));
        sched_close(s);
    }
}

/* Each choice stops on its own; the others go on. */
static bool stop_second(void *arg, const struct sched_token *t)
{
    bool stop = seen_token(arg, t);
    return stop || (t->choice == 1 && ((struct seen *)arg)->of[t->id].choice[1].count == 5);
}

static const uint32_t *odd_tokens(void *arg, uint64_t id, uint32_t choice)
{
    static uint32_t mask[32];
    const struct seen_choice *c = &((struct seen *)arg)->of[id].choice[choice];
    if (choice == 2)
        return NULL;
    /* Alternately odd and even; and nothing at all after ten. */
    for (int i = 0; i < 32; i++)
        mask[i] = c->count == 10 ? 0 : c->count % 2 ? 0x55555555 : 0xaaaaaaaa;
    return mask;
}

static void test_masks(struct model *m)
{
    const struct sched_sizes sizes = {4, 32, 40, SPECULATE_OFF, 0};
    struct sched_events e = {
        .token = stop_second, .ended = seen_end, .mask = odd_tokens, .arg = &seen};
    struct scheduler *s = sched_open_with(m, &sizes, &e);
    struct sched_request r = request(0, 20, 3);
    sched_submit(s, &r);
    sched_finish(s);
    const struct seen_choice *c = seen.of[0].choice;
    CHECK(c[0].how == SCHED_BLOCKED && c[0].count == 10);
    CHECK(c[1].how == SCHED_STOPPED && c[1].count == 5);
    CHECK(c[2].how == SCHED_LENGTH && c[2].count == TOKENS);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < c[k].count; i++)
            CHECK_INT(c[k].ids[i] % 2, i % 2 ? 0 : 1);
    sched_close(s);
}

/* The log probabilities are the model's own, whatever the sampling does. */
struct logprobs {
    struct token_logprobs of[TOKENS];
    int32_t ids[TOKENS];
    int count;
};

static bool keep_logprobs(void *arg, const struct sched_token *t)
{
    struct logprobs *l = arg;
    CHECK_FATAL(t->logprobs && l->count < TOKENS);
    l->ids[l->count] = t->token;
    l->of[l->count++] = *t->logprobs;
    return false;
}

static void ignore_end(void *arg, uint64_t id, uint32_t choice, enum sched_end how)
{
}

static void test_logprobs(struct model *m)
{
    static struct logprobs got;
    struct kv_shape shape;
    struct scheduler *s = NULL;
    struct error err;
    model_kv_shape(m, &shape);
    struct sched_options o = {.sequences_max = 1,
                              .step_tokens = 32,
                              .kv_bytes = (int64_t)kv_block_bytes(&shape) * 40,
                              .queue_max = 4};
    struct sched_events e = {.token = keep_logprobs, .ended = ignore_end, .arg = &got};
    CHECK_FATAL(scheduler_new(m, &o, &e, &s, &err) == OK);
    struct sched_request r = request(0, 20, 1);
    r.sampling.logprobs = true;
    r.sampling.top_logprobs = 5;
    r.sampling.presence_penalty = 1;
    sched_submit(s, &r);
    sched_finish(s);
    sched_close(s);
    CHECK_INT(got.count, TOKENS);
    static struct id_list all;
    all.count = 20 + TOKENS;
    memcpy(all.ids, prompt, 20 * sizeof *prompt);
    memcpy(all.ids + 20, got.ids, sizeof got.ids);
    float *logits = golden_run(m, &all, 32);
    size_t vocab = model_vocab_size(m);
    for (int i = 0; i < TOKENS; i++) {
        const float *row = logits + (size_t)(19 + i) * vocab;
        double sum = 0;
        for (size_t v = 0; v < vocab; v++)
            sum += exp((double)row[v]);
        CHECK(fabs((double)got.of[i].logprob - ((double)row[got.ids[i]] - log(sum))) < 1e-4);
        CHECK_INT(got.of[i].top_count, 5);
        for (int k = 0; k < 5; k++) {
            double want = (double)row[got.of[i].top[k].token] - log(sum);
            CHECK(fabs((double)got.of[i].top[k].logprob - want) < 1e-4);
            CHECK(k == 0 || got.of[i].top[k].logprob <= got.of[i].top[k - 1].logprob);
        }
    }
    free(logits);
}

int main(void)
{
    struct model_options options = {.threads = 1, .deterministic = true};
    struct model *m = golden_model("models/demo", &options);
    for (int i = 0; i < 100; i++)
        prompt[i] = i * 13 % 1000;
    check_shared(m, 5);
    check_shared(m, 16);
    check_shared(m, 40);
    check_shared(m, 64);
    test_cancel(m);
    test_masks(m);
    test_logprobs(m);
    model_free(m);
    return check_done();
}
