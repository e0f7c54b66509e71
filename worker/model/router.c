#include "worker/model/router.h"

#include <assert.h>
#include <math.h>

static float sum_of_two_best(const float *s, int n)
{
    float best = -INFINITY, second = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (s[i] > best) {
            second = best;
            best = s[i];
        } else if (s[i] > second) {
            second = s[i];
        }
    }
    return best + second;
}

/* The index of the largest; the first of equals. */
static int largest(const float *s, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (s[i] > s[best])
            best = i;
    return best;
}

static float group_score(const struct moe_config *c, const float *s, int n)
{
    return c->group_score == GROUPS_BY_LARGEST ? s[largest(s, n)] : sum_of_two_best(s, n);
}

static void drop_groups(const struct moe_config *c, float *choice)
{
    int size = c->experts / c->groups;
    float score[1024];
    bool kept[1024] = {false};
    for (int g = 0; g < c->groups; g++)
        score[g] = group_score(c, choice + g * size, size);
    for (int i = 0; i < c->kept_groups; i++) {
        int g = largest(score, c->groups);
        kept[g] = true;
        score[g] = -INFINITY;
    }
    for (int e = 0; e < c->experts; e++)
        if (!kept[e / size])
            choice[e] = -INFINITY;
}

static void sort_ascending(int *experts, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && experts[j - 1] > experts[j]; j--) {
            int t = experts[j];
            experts[j] = experts[j - 1];
            experts[j - 1] = t;
        }
}

static void sigmoid(const float *logits, float *score, int n)
{
    for (int e = 0; e < n; e++)
        score[e] = 1.0f / (1.0f + expf(-logits[e]));
}

static void softmax(const float *logits, float *score, int n)
{
    float most = logits[largest(logits, n)], sum = 0;
    for (int e = 0; e < n; e++) {
        score[e] = expf(logits[e] - most);
        sum += score[e];
    }
    for (int e = 0; e < n; e++)
        score[e] /= sum;
}

void router_choose(const struct moe_config *c, const float *logits, const float *bias, int *experts,
                   float *weights)
{
    float score[ROUTER_MAX_EXPERTS], choice[ROUTER_MAX_EXPERTS];
    assert(c->experts <= ROUTER_MAX_EXPERTS && c->chosen <= ROUTER_MAX_CHOSEN);
    if (c->scores == SCORES_SIGMOID)
        sigmoid(logits, score, c->experts);
    else
        softmax(logits, score, c->experts);
    for (int e = 0; e < c->experts; e++)
        choice[e] = bias ? score[e] + bias[e] : score[e];
    if (c->kept_groups < c->groups)
        drop_groups(c, choice);
    for (int i = 0; i < c->chosen; i++) {
        experts[i] = largest(choice, c->experts);
        choice[experts[i]] = -INFINITY;
    }
    sort_ascending(experts, c->chosen);
    float sum = 1e-20f;
    for (int i = 0; i < c->chosen; i++)
        sum += score[experts[i]];
    for (int i = 0; i < c->chosen; i++)
        weights[i] = score[experts[i]] / (c->normalise ? sum : 1.0f) * (float)c->scale;
}
