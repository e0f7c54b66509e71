/* links: tg_auth */
/* A key record from Redis is within its bounds or refused whole. */
#include <assert.h>

#include "auth/key_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct key_record r, untouched;
    memset(&r, 0x5a, sizeof r);
    untouched = r;
    enum status st = key_record_parse((const char *)data, len, &r);
    if (st != OK) {
        assert(st == CORRUPT && memcmp(&r, &untouched, sizeof r) == 0);
        return 0;
    }
    assert(r.model_count >= 0 && r.model_count <= KEY_MODELS_MAX);
    assert(r.version >= 0 && r.expires_wall_ms >= 0);
    assert(strlen(r.currency) == 3);
    assert(r.priority >= -KEY_PRIORITY_MAX && r.priority <= KEY_PRIORITY_MAX);
    for (int i = 0; i < r.model_count; i++) {
        assert(strnlen(r.models[i], KEY_MODEL_NAME_MAX) < KEY_MODEL_NAME_MAX);
        assert(key_record_allows(&r, r.models[i]));
    }
    for (int s = 0; s < SUBJECTS; s++)
        assert(r.limits[s].requests_per_min >= 0 && r.limits[s].tokens_per_min >= 0 &&
               r.limits[s].concurrency >= 0);
    assert(key_record_bytes(&r) <= sizeof r);
    return 0;
}
