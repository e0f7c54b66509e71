/* What a model says of itself, counted by hand. */
#include "tests/unit/worker/golden.h"

static void test_demo(void)
{
    struct model_info info;
    struct kv_shape kv;
    struct model_options options = {.threads = 1};
    struct model *m = golden_model("models/demo", &options);
    model_describe(m, &info);
    CHECK_STR(info.architecture, "DeepseekV3ForCausalLM");
    CHECK(info.layers == 6 && info.hidden == 256 && info.heads == 4 && info.kv_heads == 0);
    CHECK(info.experts == 16 && info.chosen == 4 && info.shared == 1 && !info.mtp);
    /* The attention of a layer, its norms, a dense MLP, an expert, a router and its bias. */
    int64_t attention = 96 * 256 + 96 + 4 * 48 * 96 + 80 * 256 + 64 + 4 * 64 * 64 + 256 * 128;
    int64_t norms = 2 * 256, dense = 3 * 512 * 256, expert = 3 * 64 * 256, router = 16 * 256 + 16;
    int64_t rest = 6 * (attention + norms) + dense + 5 * (expert + router) + 1024 * 256 + 256;
    CHECK_INT(info.parameters, rest + 5 * 16 * expert + 1024 * 256);
    CHECK_INT(info.active_parameters, rest + 5 * 4 * expert);
    model_kv_shape(m, &kv);
    CHECK_INT(info.kv_bytes_per_token, (int64_t)kv_block_bytes(&kv) / KV_BLOCK_TOKENS);
    int64_t bytes = 0;
    for (int t = 0; t < DTYPE_OTHER; t++)
        bytes += info.bytes_of[t];
    CHECK(info.bytes_of[DTYPE_F8_E4M3] > 0 && bytes > info.parameters &&
          bytes < 2 * info.parameters);
    model_free(m);
}

int main(void)
{
    test_demo();
    return check_done();
}
