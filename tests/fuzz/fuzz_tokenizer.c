/* links: tg_worker */
/* A tokenizer.json, then, behind a byte 0xff, a text for it. */
#include <assert.h>

#include "worker/tokenizer_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *mark = memchr(data, 0xff, len);
    size_t json_len = mark ? (size_t)(mark - data) : len;
    struct tokenizer *t = NULL;
    struct error err;
    if (tokenizer_parse((const char *)data, json_len, &t, &err) != OK)
        return 0;
    struct token_list ids;
    token_list_init(&ids, 4096);
    size_t text_len = mark ? len - json_len - 1 : 0;
    const char *text = mark ? (const char *)mark + 1 : "";
    if (tokenizer_encode(t, text, text_len, true, &ids) == OK) {
        for (size_t i = 0; i < ids.count; i++) {
            size_t n;
            const uint8_t *bytes = tokenizer_bytes(t, ids.ids[i], &n);
            assert(bytes && n > 0);
        }
    }
    token_list_done(&ids);
    tokenizer_free(t);
    return 0;
}
