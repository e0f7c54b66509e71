#include "worker/chat.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/crypto.h"
#include "base/json.h"
#include "worker/chat_private.h"

enum { CONFIG_BYTES_MAX = 4 << 20 };

static const struct chat_kind *const kinds[] = {&chat_deepseek_v31};

static const struct chat_kind *find_kind(const char *text)
{
    uint8_t hash[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    crypto_sha256(text, strlen(text), hash);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(hex, kinds[i]->sha256) == 0)
            return kinds[i];
    return NULL;
}

static enum status find_tokens(struct chat_template *c, struct error *err)
{
    for (int i = 0; i < CHAT_TOKEN_COUNT; i++) {
        const char *text = c->kind->tokens[i];
        c->ids[i] = text ? tokenizer_id(c->tokenizer, text) : -1;
        if (text && c->ids[i] < 0)
            return error_set(err, INVALID,
                             "the chat template (%s) needs the added token \"%s\", which the "
                             "tokenizer has not",
                             c->kind->name, text);
    }
    return OK;
}

static void add_stop(struct chat_markers *m, int64_t id)
{
    enum { ROOM = sizeof m->stop_ids / sizeof *m->stop_ids };
    for (int i = 0; i < m->stop_count; i++)
        if (m->stop_ids[i] == id)
            return;
    if (m->stop_count < ROOM)
        m->stop_ids[m->stop_count++] = (int32_t)id;
}

/* eos_token_id of generation_config.json: a number or a list; the file may be absent. */
static enum status add_generation_stops(const char *dir, struct chat_markers *m, struct error *err)
{
    char path[4096];
    struct stat sb;
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (stat(path, &sb) < 0 && errno == ENOENT)
        return OK;
    struct json *root = NULL;
    enum status st = json_parse_file(path, CONFIG_BYTES_MAX, &root, err);
    if (st != OK)
        return st;
    const struct json *ids = json_get(root, "eos_token_id");
    int64_t id;
    if (json_int(ids, 0, INT32_MAX, &id))
        add_stop(m, id);
    for (const struct json *v = json_is_array(ids) ? json_first(ids) : NULL; v; v = json_next(v))
        if (json_int(v, 0, INT32_MAX, &id))
            add_stop(m, id);
    json_free(root);
    return OK;
}

static enum status load(struct chat_template *c, const char *dir, const struct json *config,
                        struct error *err)
{
    const char *text = json_string(json_get(config, "chat_template"));
    if (!text)
        return error_set(err, INVALID, "chat_template is not there or not a string");
    c->kind = find_kind(text);
    if (!c->kind)
        return error_set(err, INVALID, "the chat template is none that this program knows (%s)",
                         kinds[0]->name);
    enum status st = find_tokens(c, err);
    if (st != OK)
        return st;
    c->markers = (struct chat_markers){.think_begin = c->ids[CHAT_THINK_BEGIN],
                                       .think_end = c->ids[CHAT_THINK_END],
                                       .starts_in_reasoning = c->kind->starts_in_reasoning};
    add_stop(&c->markers, c->ids[CHAT_EOS]);
    return add_generation_stops(dir, &c->markers, err);
}

enum status chat_load(const char *dir, const struct tokenizer *t, struct chat_template **out,
                      struct error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/tokenizer_config.json", dir) >= sizeof path)
        return error_set(err, INVALID, "the folder's name is too long");
    struct json *config = NULL;
    enum status st = json_parse_file(path, CONFIG_BYTES_MAX, &config, err);
    if (st != OK)
        return st;
    struct chat_template *c = calloc(1, sizeof *c);
    if (c) {
        c->tokenizer = t;
        st = load(c, dir, config, err);
    } else {
        st = error_set(err, NOMEM, "out of memory");
    }
    json_free(config);
    if (st != OK) {
        error_prefix(err, "%s", path);
        chat_free(c);
        return st;
    }
    *out = c;
    return OK;
}

void chat_free(struct chat_template *c)
{
    free(c);
}

enum status chat_render(const struct chat_template *c, const struct chat_message *messages,
                        int count, bool thinking, struct token_list *out, struct error *err)
{
    if (count <= 0)
        return error_set(err, INVALID, "messages is empty");
    struct chat_input in = {.c = c, .messages = messages, .count = count, .thinking = thinking};
    enum status st = c->kind->render(&in, out, err);
    if (st == LIMITED)
        error_set(err, st, "the prompt has more than %zu tokens", out->max);
    else if (st == NOMEM)
        error_set(err, st, "out of memory");
    return st;
}

bool chat_starts_in_reasoning(const struct chat_template *c, const struct chat_message *messages,
                              int count, bool thinking)
{
    assert(count > 0);
    struct chat_input in = {.c = c, .messages = messages, .count = count, .thinking = thinking};
    return c->kind->starts_in_reasoning && c->kind->starts_in_reasoning(&in);
}

void chat_overhead(const struct chat_template *c, uint32_t *prompt, uint32_t *message)
{
    *prompt = c->kind->prompt_overhead;
    *message = c->kind->message_overhead;
}

void chat_markers(const struct chat_template *c, struct chat_markers *out)
{
    *out = c->markers;
}
