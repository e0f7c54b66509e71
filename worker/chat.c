#include "worker/chat.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/json.h"
#include "worker/chat_private.h"
#include "worker/textfile.h"
#include "worker/utf8.h"

enum { CONFIG_BYTES_MAX = 4 << 20 };

struct chat_template {
    const struct tokenizer *tokenizer;
    const struct chat_kind *kind;
    enum tool_form tools;
    struct chat_markers markers;
    int32_t fim_begin, fim_hole, fim_end;
    int32_t bos; /* in front of a completed text; -1: none */
};

const struct chat_kind *const chat_kinds[] = {
    &chat_deepseek_v31,
    &chat_deepseek_terminus,
    &chat_deepseek_r1_0528,
    &chat_deepseek_r1,
    &chat_deepseek_r1_free,
    &chat_deepseek_distill,
    &chat_deepseek_v3_0324,
    &chat_deepseek_distill_free,
    &chat_deepseek_v3,
    &chat_deepseek_v2,
    &chat_qwen3,
    &chat_qwen3_thinking,
    &chat_qwen3_instruct,
    &chat_qwq,
    &chat_qwq_preview,
    &chat_qwen25,
    &chat_qwen25_first,
    &chat_qwen2,
    &chat_qwen15,
    &chat_llama32,
    &chat_llama31,
    &chat_llama3,
    &chat_llama2,
    &chat_mixtral,
    &chat_qwen3_coder,
    &chat_qwen3_coder_first,
    &chat_mixtral_first,
    &chat_mistral_first,
    &chat_mistral_v3,
    &chat_mistral_nemo,
    &chat_mixtral_8x22b,
};
const int chat_kind_count = sizeof chat_kinds / sizeof *chat_kinds;

static bool matches(const struct chat_kind *k, const char *text)
{
    for (int i = 0; i < CHAT_TEXTS_MAX && k->has[i]; i++)
        if (!strstr(text, k->has[i]))
            return false;
    for (int i = 0; i < CHAT_TEXTS_MAX && k->has_not[i]; i++)
        if (strstr(text, k->has_not[i]))
            return false;
    return true;
}

const struct chat_kind *chat_kind_of(const char *text)
{
    for (int i = 0; i < chat_kind_count; i++)
        if (matches(chat_kinds[i], text))
            return chat_kinds[i];
    return NULL;
}

static enum status check_tokens(const struct chat_template *c, struct error *err)
{
    for (int i = 0; i < CHAT_TEXTS_MAX && c->kind->needs[i]; i++)
        if (tokenizer_id(c->tokenizer, c->kind->needs[i]) < 0)
            return error_set(err, INVALID,
                             "the chat template (%s) needs the added token \"%s\", which the "
                             "tokenizer has not",
                             c->kind->name, c->kind->needs[i]);
    return OK;
}

/* Some families share a template, but not the tokens for calls. */
static enum tool_form tools_of(const struct chat_kind *k, const struct tokenizer *t)
{
    for (int i = 0; i < CHAT_TEXTS_MAX && k->tool_tokens[i]; i++)
        if (tokenizer_id(t, k->tool_tokens[i]) < 0)
            return TOOLS_NONE;
    return k->tools;
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

/* out NULL: there is no such file. */
static enum status read_config(const char *dir, const char *file, struct json **out,
                               struct error *err)
{
    char path[4096];
    struct stat sb;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    *out = NULL;
    if (stat(path, &sb) < 0 && errno == ENOENT)
        return OK;
    return json_parse_file(path, CONFIG_BYTES_MAX, out, err);
}

/* eos_token_id of a file: a number or a list. */
static enum status add_stops_of(const char *dir, const char *file, struct chat_markers *m,
                                struct error *err)
{
    struct json *root;
    enum status st = read_config(dir, file, &root, err);
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

/* The first of these that is an added token; -1: none. */
static int32_t first_token(const struct tokenizer *t, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        int32_t id = tokenizer_id(t, names[i]);
        if (id >= 0)
            return id;
    }
    return -1;
}

static void set_markers(struct chat_template *c)
{
    const struct tokenizer *t = c->tokenizer;
    const struct chat_kind *k = c->kind;
    bool deepseek = c->tools == TOOLS_DEEPSEEK || c->tools == TOOLS_DEEPSEEK_31;
    bool qwen = c->tools == TOOLS_QWEN || c->tools == TOOLS_QWEN_CODER;
    c->markers = (struct chat_markers){
        .think_begin = tokenizer_id(t, "<think>"),
        .think_end = tokenizer_id(t, "</think>"),
        .opens_thinking = k->opens_thinking,
        .tools = c->tools,
        .calls_begin = deepseek                    ? tokenizer_id(t, "<｜tool▁calls▁begin｜>")
                       : c->tools == TOOLS_MISTRAL ? tokenizer_id(t, "[TOOL_CALLS]")
                                                   : -1,
        .calls_end = deepseek ? tokenizer_id(t, "<｜tool▁calls▁end｜>") : -1,
        .call_begin = deepseek ? tokenizer_id(t, "<｜tool▁call▁begin｜>")
                      : qwen   ? tokenizer_id(t, "<tool_call>")
                               : -1,
        .call_end = deepseek ? tokenizer_id(t, "<｜tool▁call▁end｜>")
                    : qwen   ? tokenizer_id(t, "</tool_call>")
                             : -1,
        .call_sep = deepseek ? tokenizer_id(t, "<｜tool▁sep｜>") : -1};
    for (int i = 0; i < CHAT_TEXTS_MAX && k->ends[i]; i++) {
        int32_t id = tokenizer_id(t, k->ends[i]);
        if (id >= 0)
            add_stop(&c->markers, id);
    }
}

static void set_fill_tokens(struct chat_template *c)
{
    static const char *const begin[] = {"<｜fim▁begin｜>", "<|fim_prefix|>", "<fim_prefix>"};
    static const char *const hole[] = {"<｜fim▁hole｜>", "<|fim_suffix|>", "<fim_suffix>"};
    static const char *const end[] = {"<｜fim▁end｜>", "<|fim_middle|>", "<fim_middle>"};
    static const char *const bos[] = {"<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>"};
    c->fim_begin = first_token(c->tokenizer, begin, 3);
    c->fim_hole = first_token(c->tokenizer, hole, 3);
    c->fim_end = first_token(c->tokenizer, end, 3);
    c->bos = first_token(c->tokenizer, bos, 3);
}

/* A model that was trained on plain text only: it goes on from a text. */
static const struct chat_kind no_template = {
    .name = "none",
    .ends = {"<｜end▁of▁sentence｜>", "<|endoftext|>", "<|end_of_text|>", "</s>"},
    .overhead = {.prompt = 8},
};

/* text NULL: the model has no template. */
static enum status load(struct chat_template *c, const char *dir, const char *text,
                        struct error *err)
{
    c->kind = text ? chat_kind_of(text) : &no_template;
    if (!c->kind)
        return error_set(err, INVALID,
                         "a chat template that this program does not know (DeepSeek V2 to V3.1 "
                         "and R1, Qwen1.5 to 3, QwQ, Llama 2 to 3.3, Mistral 7B and Nemo, "
                         "Mixtral)");
    enum status st = check_tokens(c, err);
    if (st != OK)
        return st;
    c->tools = tools_of(c->kind, c->tokenizer);
    set_markers(c);
    set_fill_tokens(c);
    st = add_stops_of(dir, "generation_config.json", &c->markers, err);
    if (st == OK && !text)
        st = add_stops_of(dir, "config.json", &c->markers, err);
    return st;
}

/* chat_template of tokenizer_config.json is a text, or a list of {"name", "template"}. */
static const char *template_of(const struct json *v)
{
    if (!json_is_array(v))
        return json_string(v);
    for (const struct json *one = json_first(v); one; one = json_next(one)) {
        const char *name = json_string(json_get(one, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string(json_get(one, "template"));
    }
    return NULL;
}

/* A file of its own has precedence over what tokenizer_config.json says. *file: where it was found;
 * NULL: nowhere. */
static enum status read_template(const char *dir, struct buf *out, const char **file,
                                 struct error *err)
{
    char path[4096];
    struct stat sb;
    *file = "chat_template.jinja";
    snprintf(path, sizeof path, "%s/%s", dir, *file);
    if (stat(path, &sb) == 0)
        return textfile_read(path, out, err);
    *file = "tokenizer_config.json";
    struct json *config;
    enum status st = read_config(dir, *file, &config, err);
    if (st != OK)
        return st;
    const struct json *v = json_get(config, "chat_template");
    const char *text = template_of(v);
    if (text)
        st = buf_adds(out, text);
    else if (!v || json_is_null(v))
        *file = NULL;
    else
        st = error_set(err, INVALID,
                       "%s/tokenizer_config.json: chat_template is no string, and no list with a "
                       "\"default\"",
                       dir);
    json_free(config);
    return st;
}

enum status chat_load(const char *dir, const struct tokenizer *t, struct chat_template **out,
                      struct error *err)
{
    if (strlen(dir) > 4000)
        return error_set(err, INVALID, "the folder's name is too long");
    struct buf text;
    const char *file;
    buf_init(&text, CONFIG_BYTES_MAX);
    enum status st = read_template(dir, &text, &file, err);
    struct chat_template *c = st == OK ? calloc(1, sizeof *c) : NULL;
    const char *text_z = c ? buf_cstr(&text) : NULL;
    if (st == OK && !text_z)
        st = error_set(err, NOMEM, "out of memory");
    if (st == OK) {
        c->tokenizer = t;
        st = load(c, dir, file ? text_z : NULL, err);
        if (st != OK)
            error_prefix(err, "%s/%s", dir, file ? file : "config.json");
    }
    buf_done(&text);
    if (st != OK) {
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

const char *chat_name(const struct chat_template *c)
{
    return c->kind->name;
}

bool chat_converses(const struct chat_template *c)
{
    return c->kind != &no_template;
}

static enum status check_message(const struct chat_template *c, const struct chat_request *in,
                                 int at, struct error *err)
{
    const struct chat_message *m = &in->messages[at];
    bool assistant = chat_is(m, "assistant");
    if (!assistant && !chat_is(m, "user") && !chat_is(m, "system") && !chat_is(m, "tool"))
        return error_set(err, INVALID,
                         "messages[%d]: unknown role \"%.40s\" (system, user, assistant, tool)", at,
                         m->role);
    if (m->prefix && !(assistant && at == in->count - 1))
        return error_set(err, INVALID,
                         "messages[%d]: prefix is for the last message, of role assistant", at);
    if (m->prefix && m->tool_call_count)
        return error_set(err, INVALID, "messages[%d]: a prefix has no tool calls", at);
    if (m->tool_call_count > 1 && c->kind->single_calls)
        return error_set(err, INVALID, "messages[%d]: this model makes one call at once", at);
    if ((m->tool_call_count || chat_is(m, "tool")) && c->tools == TOOLS_NONE)
        return error_set(err, INVALID, "messages[%d]: this model knows no tools", at);
    if (!utf8_valid((const uint8_t *)m->content, strlen(m->content)))
        return error_set(err, INVALID, "messages[%d]: not UTF-8", at);
    return OK;
}

enum status chat_render(const struct chat_template *c, const struct chat_request *in,
                        struct token_list *out, struct error *err)
{
    assert(chat_converses(c));
    if (in->count <= 0)
        return error_set(err, INVALID, "messages is empty");
    if (in->tool_count && c->tools == TOOLS_NONE)
        return error_set(err, INVALID, "this model (%s) knows no tools", c->kind->name);
    for (int i = 0; i < in->count; i++) {
        enum status st = check_message(c, in, i, err);
        if (st != OK)
            return st;
    }
    struct prompt p;
    prompt_begin(&p, c->tokenizer, out);
    enum status said = c->kind->render(in, &p, err);
    enum status st = prompt_end(&p);
    if (said != OK)
        return said;
    if (st == LIMITED)
        error_set(err, st, "the prompt has more than %zu tokens", out->max);
    else if (st == NOMEM)
        error_set(err, st, "out of memory");
    else if (st == INVALID)
        error_set(err, st, "a text of the prompt is not UTF-8");
    return st;
}

bool chat_starts_in_reasoning(const struct chat_template *c, const struct chat_request *in)
{
    assert(in->count > 0);
    return c->kind->starts_in_reasoning && c->kind->starts_in_reasoning(in);
}

enum status chat_complete(const struct chat_template *c, const char *prompt, const char *suffix,
                          struct token_list *out, struct error *err)
{
    if (suffix && (c->fim_begin < 0 || c->fim_hole < 0 || c->fim_end < 0))
        return error_set(err, INVALID, "this model has no tokens to fill in the middle (suffix)");
    const int32_t marks[] = {c->bos, suffix ? c->fim_begin : -1, suffix ? c->fim_hole : -1,
                             suffix ? c->fim_end : -1};
    const char *const texts[] = {"", prompt, suffix ? suffix : "", ""};
    enum status st = OK;
    for (int i = 0; i < 4 && st == OK; i++) {
        st = marks[i] >= 0 ? token_list_add(out, marks[i]) : OK;
        if (st == OK)
            st = tokenizer_encode(c->tokenizer, texts[i], strlen(texts[i]), false, out);
    }
    if (st == INVALID)
        error_set(err, st, "prompt or suffix is not UTF-8");
    else if (st == LIMITED)
        error_set(err, st, "the prompt has more than %zu tokens", out->max);
    else if (st == NOMEM)
        error_set(err, st, "out of memory");
    return st;
}

void chat_overhead(const struct chat_template *c, struct chat_overhead *out)
{
    *out = c->kind->overhead;
}

void chat_markers(const struct chat_template *c, struct chat_markers *out)
{
    *out = c->markers;
}
