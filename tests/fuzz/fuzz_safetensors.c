/* links: tg_worker */
/* Whatever the file says: every tensor that is handed out lies inside it, with the bytes that its
 * type and shape make. */
#include <assert.h>

#include "worker/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const names[] = {"a", "b", "c", "model.norm.weight", "", "__metadata__"};
    struct safetensors *s = NULL;
    struct error err = {""};
    if (safetensors_parse("fuzz", data, len, &s, &err) != OK) {
        assert(err.text[0] && !s);
        return 0;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct tensor *t = safetensors_find(s, names[i]);
        if (!t)
            continue;
        assert(t->data >= data && t->data + t->bytes <= data + len && t->dims <= TENSOR_MAX_DIMS);
        size_t elements = 1;
        for (int d = 0; d < t->dims; d++)
            elements *= (size_t)t->shape[d];
        assert(t->dtype == DTYPE_OTHER || elements * dtype_bytes(t->dtype) == t->bytes);
        volatile uint8_t sum = 0;
        for (size_t b = 0; b < t->bytes; b++)
            sum = (uint8_t)(sum + t->data[b]);
    }
    safetensors_free(s);
    return 0;
}
