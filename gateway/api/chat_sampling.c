/* How tokens are drawn, and what is said about them. */
#include "gateway/api/chat_parse.h"

enum { TOP_LOGPROBS_MAX = 20, TOP_K_MAX = 1 << 20 };
static const int64_t SEED_MAX = 1LL << 53;

struct ratio {
    const char *name;
    size_t offset; /* of the float in Wire__Sampling */
    double least, most;
    bool above; /* the least is not allowed itself */
};

#define RATIO(name, least, most, above)                                                            \
    {                                                                                              \
#name, offsetof(Wire__Sampling, name), least, most, above                                  \
    }
static const struct ratio ratios[] = {
    RATIO(temperature, 0, 2, false),
    RATIO(top_p, 0, 1, true),
    RATIO(min_p, 0, 1, false),
    RATIO(frequency_penalty, -2, 2, false),
    RATIO(presence_penalty, -2, 2, false),
    RATIO(repetition_penalty, 0, 2, true),
};
#undef RATIO

bool chat_ratio(struct chat_parse *p, const char *name, const struct json *v)
{
    const struct ratio *r = ratios;
    while (strcmp(r->name, name) != 0)
        r++;
    if (!json_is_number(v))
        return api_error_param(p->e, name, "'%s' must be a number.", name);
    double n = json_number(v);
    float f = (float)n;
    if (n > r->most || n < r->least || (r->above && f <= (float)r->least))
        return api_error_param(p->e, name, "'%s' must be %s %g and at most %g.", name,
                               r->above ? "above" : "at least", r->least, r->most);
    memcpy((char *)p->out->sampling + r->offset, &f, sizeof f);
    return true;
}

bool chat_top_k(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    if (!json_int(v, -1, TOP_K_MAX, &n))
        return api_error_param(p->e, name, "'top_k' must be a whole number, 0 or more.");
    p->out->sampling->top_k = n > 0 ? (uint32_t)n : 0; /* some clients say -1 for off */
    return true;
}

bool chat_seed(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    if (!json_int(v, -SEED_MAX, SEED_MAX, &n))
        return api_error_param(p->e, name, "'seed' must be a whole number, at most 2^53.");
    p->out->sampling->seed = (uint64_t)n;
    p->out->sampling->has_seed = true;
    return true;
}

bool chat_choices(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    if (!json_int(v, 1, p->limits->choices_max, &n))
        return api_error_param(p->e, name, "'n' must be a whole number from 1 to %d.",
                               (int)p->limits->choices_max);
    p->out->choices = (uint32_t)n;
    return true;
}

/* A key of logit_bias: a token id in decimal. */
static bool token_id(const char *text, uint32_t *out)
{
    uint64_t n = 0;
    size_t len = strlen(text);
    if (len < 1 || len > 10 || (len > 1 && text[0] == '0'))
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    *out = (uint32_t)n;
    return n <= INT32_MAX;
}

static bool add_bias(struct chat_parse *p, const char *name, const struct json *m,
                     Wire__LogitBias *bias)
{
    wire__logit_bias__init(bias);
    if (!token_id(json_key(m), &bias->token))
        return api_error_param(p->e, name, "'logit_bias': \"%.40s\" is not the id of a token.",
                               json_key(m));
    double n = json_number(m);
    if (!(n >= -100 && n <= 100))
        return api_error_param(p->e, name, "'logit_bias': each value must be from -100 to 100.");
    bias->bias = (float)n;
    return true;
}

bool chat_logit_bias(struct chat_parse *p, const char *name, const struct json *v)
{
    Wire__Sampling *s = p->out->sampling;
    bool empty_list = json_is_array(v) && json_count(v) == 0; /* as some clients say nothing */
    if (!json_is_object(v) && !empty_list)
        return api_error_param(p->e, name, "'logit_bias' must be an object.");
    int count = json_count(v), i = 0;
    if (count > CHAT_BIASES_MAX)
        return api_error_param(p->e, name, "'logit_bias' may have at most %d tokens.",
                               CHAT_BIASES_MAX);
    Wire__LogitBias *all = arena_alloc(p->arena, sizeof *all * (size_t)count + 1);
    s->logit_bias = arena_alloc(p->arena, sizeof *s->logit_bias * (size_t)count + 1);
    if (!all || !s->logit_bias)
        return chat_no_memory(p);
    for (const struct json *m = json_first(v); m; m = json_next(m), i++) {
        if (!add_bias(p, name, m, &all[i]))
            return false;
        s->logit_bias[i] = &all[i];
    }
    s->n_logit_bias = (size_t)count;
    return true;
}

/* true or false of a chat; of a completion, how many candidates to name. */
bool chat_logprobs(struct chat_parse *p, const char *name, const struct json *v)
{
    Wire__Sampling *s = p->out->sampling;
    int64_t n;
    if (p->out->completion) {
        if (!json_int(v, 0, TOP_LOGPROBS_MAX, &n))
            return api_error_param(p->e, name, "'logprobs' must be a whole number from 0 to %d.",
                                   TOP_LOGPROBS_MAX);
        s->logprobs = true;
        s->top_logprobs = (uint32_t)n;
        return true;
    }
    if (!json_is_bool(v))
        return api_error_param(p->e, name, "'logprobs' must be true or false.");
    s->logprobs = json_bool(v);
    return true;
}

bool chat_top_logprobs(struct chat_parse *p, const char *name, const struct json *v)
{
    int64_t n;
    if (!json_int(v, 0, TOP_LOGPROBS_MAX, &n))
        return api_error_param(p->e, name, "'top_logprobs' must be a whole number from 0 to %d.",
                               TOP_LOGPROBS_MAX);
    p->out->sampling->top_logprobs = (uint32_t)n;
    return true;
}
