/* links: tg_worker */
/*
 * JSON that prompts show: whatever passes the guard is written as JSON again, of the same form when
 * written once more; its members are found; and as a tool's parameters it can be read.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "worker/chat_private.h"
#include "worker/coder_form.h"

static void want(bool ok)
{
    if (!ok)
        abort();
}

static void write_twice(const char *text)
{
    struct prompt once, twice;
    prompt_begin(&once, NULL, NULL);
    prompt_begin(&twice, NULL, NULL);
    prompt_json(&once, text, 0);
    const char *first = buf_cstr(&once.plain);
    want(first && json_guard(first, strlen(first), NULL, NULL) == OK);
    prompt_json(&twice, first, 0);
    want(strcmp(buf_cstr(&twice.plain), first) == 0);
    buf_clear(&twice.plain);
    prompt_python(&twice, first, strlen(first));
    want(twice.status == OK);
    buf_done(&once.plain);
    buf_done(&twice.plain);
}

/* The members lie in the text, one behind the other, as many as there are. */
static void walk_members(const char *text, const struct json *root)
{
    struct chat_member m;
    const char *at = text, *behind = text;
    int n = 0;
    for (; chat_member_next(&at, &m); n++) {
        want(m.key > behind && m.value > m.key + m.key_len && at == m.value + m.value_len);
        want(json_guard(m.value, m.value_len, NULL, NULL) == OK);
        behind = at;
    }
    want(n == json_count(root));
}

static void read_parameters(const char *text)
{
    struct coder_parameters p;
    struct buf value;
    buf_init(&value, 1 << 20);
    want(coder_read(text, &p) == OK);
    for (int i = 0; i < p.count; i++) {
        buf_clear(&value);
        want(coder_value(&p.items[i], p.items[i].schema, strlen(p.items[i].schema), &value) == OK);
        want(json_guard((const char *)buf_head(&value), buf_len(&value), NULL, NULL) == OK);
        for (int k = 0; k < p.items[i].text_count; k++) {
            buf_clear(&value);
            want(coder_value(&p.items[i], p.items[i].texts[k], strlen(p.items[i].texts[k]),
                             &value) == OK);
        }
    }
    coder_done(&p);
    buf_done(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json *root = NULL;
    char *text = len < 1 << 16 ? calloc(1, len + 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data, len);
    if (strlen(text) == len && json_parse(text, len, NULL, &root, NULL) == OK) {
        write_twice(text);
        if (json_is_object(root))
            walk_members(text, root);
        read_parameters(text);
    }
    json_free(root);
    free(text);
    return 0;
}
