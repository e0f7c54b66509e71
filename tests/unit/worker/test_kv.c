#include "worker/kv.h"

#include "tests/unit/check.h"

int main(void)
{
    struct kv_shape shape = {.layers = 3, .row_floats = 32};
    struct kv *kv = NULL;
    struct error err;
    int32_t a[4], b[7];
    CHECK_FATAL(kv_new(&shape, 10, &kv, &err) == OK);
    CHECK_INT(kv_block_bytes(&shape), 3 * 16 * 32 * 4);
    CHECK(kv_blocks_for(0) == 0 && kv_blocks_for(1) == 1 && kv_blocks_for(16) == 1 &&
          kv_blocks_for(17) == 2);
    CHECK(kv_take(kv, 4, a));
    CHECK(!kv_take(kv, 7, b)); /* all or none */
    CHECK_INT(kv_free_count(kv), 6);
    CHECK(kv_take(kv, 6, b));
    CHECK(kv_used_count(kv) == 10 && kv_free_count(kv) == 0);
    kv_check(kv);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 6; j++)
            CHECK(a[i] != b[j]);
    /* Rows are their own memory. */
    for (int layer = 0; layer < 3; layer++)
        for (int p = 0; p < 16; p++)
            for (int i = 0; i < 32; i++)
                kv_row(kv, layer, a[1], p)[i] = (float)(layer * 1000 + p * 40 + i);
    memset(kv_row(kv, 1, a[0], 0), 1, 16 * 32 * sizeof(float));
    memset(kv_row(kv, 1, a[2], 0), 1, 16 * 32 * sizeof(float));
    CHECK(kv_row(kv, 2, a[1], 15)[31] == 2000 + 15 * 40 + 31);
    CHECK(kv_row(kv, 1, a[1], 0)[0] == 1000);
    kv_ref(kv, a[0]);
    kv_unref(kv, a[0]);
    CHECK_INT(kv_free_count(kv), 0); /* shared: still one holder */
    for (int i = 0; i < 4; i++)
        kv_unref(kv, a[i]);
    CHECK_INT(kv_free_count(kv), 4);
    for (int i = 0; i < 6; i++)
        kv_unref(kv, b[i]);
    CHECK(kv_free_count(kv) == kv_total(kv));
    kv_check(kv);
    kv_free(kv);
    return check_done();
}
