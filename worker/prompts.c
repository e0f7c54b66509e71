#include "worker/prompts.h"

#include <stdlib.h>

#include "base/json.h"
#include "worker/textfile.h"
#include "worker/tokenizer.h"

enum { FILE_BYTES_MAX = 64 << 20 };

struct reading {
    const char *path;
    const struct prompts_limits *limits;
    struct tokenizer *tokenizer; /* NULL: texts are refused */
    struct error *err;
};

void prompts_free(struct prompts *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        free(p->items[i].ids);
    free(p->items);
    *p = (struct prompts){0};
}

static enum status check_count(const struct reading *r, uint32_t index, size_t count)
{
    if (count == 0)
        return error_set(r->err, INVALID, "%s: prompt %u is empty", r->path, index);
    if (count > r->limits->tokens_max)
        return error_set(r->err, INVALID, "%s: prompt %u has %zu tokens, at most %u are allowed",
                         r->path, index, count, r->limits->tokens_max);
    return OK;
}

static enum status read_ids(const struct reading *r, uint32_t index, const struct json *list,
                            struct prompt *out)
{
    uint32_t count = (uint32_t)json_count(list), i = 0;
    enum status st = check_count(r, index, count);
    if (st != OK)
        return st;
    out->ids = calloc(count, sizeof *out->ids);
    if (!out->ids)
        return error_set(r->err, NOMEM, "out of memory");
    out->count = count;
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        int64_t id;
        if (!json_int(v, 0, (int64_t)r->limits->vocab - 1, &id))
            return error_set(r->err, INVALID, "%s: prompt %u: entry %u is not an id below %u",
                             r->path, index, i, r->limits->vocab);
        out->ids[i++] = (int32_t)id;
    }
    return OK;
}

static enum status read_text(const struct reading *r, uint32_t index, const char *text, size_t len,
                             struct prompt *out)
{
    struct token_list ids;
    token_list_init(&ids, r->limits->tokens_max);
    enum status st = tokenizer_encode(r->tokenizer, text, len, true, &ids);
    if (st == LIMITED)
        error_set(r->err, st, "%s: prompt %u has more than %u tokens", r->path, index,
                  r->limits->tokens_max);
    else if (st != OK)
        error_set(r->err, st, "%s: prompt %u is %s", r->path, index,
                  st == INVALID ? "not UTF-8" : "too much for the memory");
    else
        st = check_count(r, index, ids.count);
    for (size_t i = 0; st == OK && i < ids.count; i++)
        if (ids.ids[i] < 0 || (uint32_t)ids.ids[i] >= r->limits->vocab)
            st = error_set(r->err, INVALID,
                           "%s: prompt %u: the tokenizer makes id %d, the model has %u", r->path,
                           index, (int)ids.ids[i], r->limits->vocab);
    if (st == OK)
        *out = (struct prompt){ids.ids, (uint32_t)ids.count};
    else
        token_list_done(&ids);
    return st;
}

static enum status read_entry(const struct reading *r, uint32_t index, const struct json *v,
                              struct prompt *out)
{
    const char *text = json_string(v);
    if (text && r->tokenizer)
        return read_text(r, index, text, strlen(text), out);
    if (json_is_array(v))
        return read_ids(r, index, v, out);
    return error_set(r->err, INVALID, "%s: prompt %u is not an array of ids%s", r->path, index,
                     r->tokenizer ? " or a string" : "");
}

static enum status read_array(const struct reading *r, const struct json *root, struct prompts *out)
{
    if (!json_is_array(root) || !json_first(root))
        return error_set(r->err, INVALID, "%s: not an array of prompts", r->path);
    struct prompts p = {.items = calloc((size_t)json_count(root), sizeof *p.items)};
    enum status st = p.items ? OK : error_set(r->err, NOMEM, "out of memory");
    for (const struct json *v = json_first(root); v && st == OK; v = json_next(v)) {
        uint32_t index = p.count++;
        st = read_entry(r, index, v, &p.items[index]);
    }
    if (st == OK)
        *out = p;
    else
        prompts_free(&p);
    return st;
}

enum status prompts_read(const char *path, const struct prompts_limits *limits, struct prompts *out,
                         struct error *err)
{
    struct reading r = {.path = path, .limits = limits, .err = err};
    struct json *root = NULL;
    enum status st = json_parse_file(path, FILE_BYTES_MAX, &root, err);
    if (st == OK)
        st = read_array(&r, root, out);
    json_free(root);
    return st;
}

static enum status read_whole(const struct reading *r, struct prompts *out)
{
    struct buf text;
    buf_init(&text, FILE_BYTES_MAX);
    struct prompts p = {.items = calloc(1, sizeof *p.items)};
    enum status st =
        p.items ? textfile_read(r->path, &text, r->err) : error_set(r->err, NOMEM, "out of memory");
    if (st == OK)
        st = read_text(r, 0, (const char *)buf_head(&text), buf_len(&text), &p.items[p.count++]);
    buf_done(&text);
    if (st == OK)
        *out = p;
    else
        prompts_free(&p);
    return st;
}

/* A folder without a tokenizer can still be asked with ids. */
static bool has_texts(const struct json *root)
{
    for (const struct json *v = json_is_array(root) ? json_first(root) : NULL; v; v = json_next(v))
        if (json_is_string(v))
            return true;
    return false;
}

enum status prompts_read_texts(const char *path, const char *dir,
                               const struct prompts_limits *limits, struct prompts *out,
                               struct error *err)
{
    struct reading r = {.path = path, .limits = limits, .err = err};
    struct json *root = NULL;
    size_t len = strlen(path);
    bool json = len > 5 && strcmp(path + len - 5, ".json") == 0;
    enum status st = json ? json_parse_file(path, FILE_BYTES_MAX, &root, err) : OK;
    if (st == OK && (!json || has_texts(root)))
        st = tokenizer_load(dir, &r.tokenizer, err);
    if (st == OK)
        st = json ? read_array(&r, root, out) : read_whole(&r, out);
    tokenizer_free(r.tokenizer);
    json_free(root);
    return st;
}
