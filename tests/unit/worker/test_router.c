#include "worker/model/router.h"

#include <math.h>

#include "tests/unit/check.h"

static float logit(float score)
{
    return logf(score / (1 - score));
}

static bool close_to(float a, float b)
{
    return fabsf(a - b) < 1e-5f;
}

static void test_groups(void)
{
    struct moe_config c = {
        .experts = 8, .chosen = 2, .groups = 4, .kept_groups = 2, .normalise = true, .scale = 2.5};
    /* Groups add up to 0.9+0.1, 0.6+0.6, 0.5+0.55, 0.2+0.3: the second and third are kept,
     * without the best expert of all. */
    const float score[8] = {0.9f, 0.1f, 0.6f, 0.61f, 0.5f, 0.55f, 0.2f, 0.3f};
    float logits[8], bias[8] = {0}, weights[2];
    int experts[2];
    for (int i = 0; i < 8; i++)
        logits[i] = logit(score[i]);
    router_choose(&c, logits, bias, experts, weights);
    CHECK(experts[0] == 2 && experts[1] == 3);
    CHECK(close_to(weights[0], 2.5f * 0.6f / 1.21f) && close_to(weights[1], 2.5f * 0.61f / 1.21f));
    /* The bias chooses; the weights are without it. */
    bias[4] = 0.3f;
    router_choose(&c, logits, bias, experts, weights);
    CHECK(experts[0] == 3 && experts[1] == 4);
    CHECK(close_to(weights[1], 2.5f * 0.5f / 1.11f));
    c.normalise = false;
    router_choose(&c, logits, bias, experts, weights);
    CHECK(close_to(weights[1], 2.5f * 0.5f));
}

/* With a negative bias the kept groups' choices lie below zero: a dropped expert must not slip in
 * as a zero would. */
static void test_negative_choices(void)
{
    struct moe_config c = {
        .experts = 8, .chosen = 3, .groups = 2, .kept_groups = 1, .normalise = true, .scale = 1};
    float logits[8], bias[8], weights[3];
    int experts[3];
    for (int i = 0; i < 8; i++) {
        logits[i] = logit(i < 4 ? 0.5f + 0.01f * (float)i : 0.4f);
        bias[i] = -2.0f;
    }
    router_choose(&c, logits, bias, experts, weights);
    CHECK(experts[0] == 1 && experts[1] == 2 && experts[2] == 3);
}

int main(void)
{
    test_groups();
    test_negative_choices();
    return check_done();
}
