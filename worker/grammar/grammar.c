#include "worker/grammar/grammar.h"

#include <assert.h>

#include "worker/grammar/private.h"

const struct grammar_limits grammar_limits_default = {256 << 10, 60000, 2000000};

enum { PARTS_DEPTH_MAX = 16, TEXT_MAX = 32 };

struct compile {
    struct automaton *a;
    const struct grammar_limits *limits;
    struct error *err;
};

static enum status compile_part(struct compile *c, const struct grammar_part *part, int depth,
                                uint32_t *rule);

static enum status compile_literal(struct compile *c, const struct grammar_part *part,
                                   uint32_t rule)
{
    uint32_t end = automaton_text(c->a, automaton_start(c->a, rule), part->text, part->len);
    automaton_flag(c->a, end, NODE_ACCEPT);
    return OK;
}

/* How much of the text that must not come has come, after one more byte. */
static size_t text_after(const struct grammar_part *part, size_t come, uint8_t byte)
{
    if (byte == (uint8_t)part->text[come])
        return come + 1;
    return byte == (uint8_t)part->text[0];
}

static bool text_may_hold(int byte)
{
    return byte == '\t' || byte == '\n' || byte == '\r' || (byte >= 0x20 && byte < 0x80);
}

static enum status compile_text(struct compile *c, const struct grammar_part *part, uint32_t rule)
{
    uint32_t nodes[TEXT_MAX], beyond = automaton_node(c->a);
    assert(part->len > 0 && part->len <= TEXT_MAX &&
           !memchr(part->text + 1, *part->text, part->len - 1));
    for (size_t i = 0; i < part->len; i++) {
        nodes[i] = i ? automaton_node(c->a) : automaton_start(c->a, rule);
        automaton_flag(c->a, nodes[i], NODE_ACCEPT);
        automaton_jump(c->a, nodes[i], beyond);
    }
    core_characters(c->a, beyond, nodes[0]);
    for (size_t i = 0; i < part->len; i++)
        for (int lo = 0, hi; lo < 0x80; lo = hi) {
            size_t next = text_after(part, i, (uint8_t)lo);
            for (hi = lo + 1; hi < 0x80 && text_may_hold(hi) == text_may_hold(lo) &&
                              text_after(part, i, (uint8_t)hi) == next;)
                hi++;
            if (text_may_hold(lo) && next < part->len)
                automaton_edge(c->a, nodes[i], (uint8_t)lo, (uint8_t)(hi - 1), nodes[next]);
        }
    return OK;
}

static enum status compile_parts(struct compile *c, const struct grammar_part *part, int depth,
                                 uint32_t rule)
{
    uint32_t start = automaton_start(c->a, rule), at = start, end = automaton_node(c->a);
    for (size_t i = 0; i < part->count; i++) {
        uint32_t inner, to = end;
        enum status st = compile_part(c, &part->parts[i], depth + 1, &inner);
        if (st != OK)
            return st;
        if (part->kind == GRAMMAR_SEQUENCE && i + 1 < part->count)
            to = automaton_node(c->a);
        automaton_call(c->a, at, inner, to);
        if (part->kind == GRAMMAR_SEQUENCE)
            at = to;
    }
    automaton_flag(c->a, end, NODE_ACCEPT);
    return OK;
}

static enum status compile_list(struct compile *c, const struct grammar_part *part, int depth,
                                uint32_t rule)
{
    uint32_t item, between, start = automaton_start(c->a, rule), end = automaton_node(c->a);
    enum status st = compile_part(c, &part->parts[0], depth + 1, &item);
    if (st == OK)
        st = compile_part(c, &part->parts[1], depth + 1, &between);
    if (st != OK)
        return st;
    automaton_call(c->a, start, item, end);
    automaton_call(c->a, end, between, start);
    automaton_flag(c->a, end, NODE_ACCEPT);
    return OK;
}

static enum status compile_schema(struct compile *c, const struct grammar_part *part,
                                  uint32_t *rule)
{
    struct schema_source source = {part->text, part->len, part->strict,
                                   part->place ? part->place : "schema"};
    if (part->len > c->limits->schema_bytes)
        return error_set(c->err, LIMITED, "%s: longer than %zu bytes", source.place,
                         c->limits->schema_bytes);
    return schema_compile(c->a, &source, rule, c->err);
}

static enum status compile_part(struct compile *c, const struct grammar_part *part, int depth,
                                uint32_t *rule)
{
    assert(depth <= PARTS_DEPTH_MAX);
    if (part->kind == GRAMMAR_SCHEMA)
        return compile_schema(c, part, rule);
    if (part->kind == GRAMMAR_JSON_OBJECT) {
        *rule = RULE_OBJECT;
        return OK;
    }
    *rule = automaton_rule(c->a, part->place);
    if (c->a->status != OK)
        return OK; /* said at the end */
    if (part->kind == GRAMMAR_LITERAL)
        return compile_literal(c, part, *rule);
    if (part->kind == GRAMMAR_TEXT)
        return compile_text(c, part, *rule);
    if (part->kind == GRAMMAR_LIST)
        return compile_list(c, part, depth, *rule);
    assert(part->count > 0);
    return compile_parts(c, part, depth, *rule);
}

enum status grammar_compile(const struct grammar_part *part, const struct grammar_limits *limits,
                            struct grammar **out, struct error *err)
{
    struct grammar *g = calloc(1, sizeof *g);
    if (!g)
        return error_set(err, NOMEM, "out of memory");
    limits = limits ? limits : &grammar_limits_default;
    atomic_init(&g->refs, 1);
    pthread_mutex_init(&g->lock, NULL);
    automaton_init(&g->automaton, limits->nodes, limits->work);
    struct compile c = {&g->automaton, limits, err};
    core_build(&g->automaton);
    enum status st = compile_part(&c, part, 0, &g->root);
    if (st == OK)
        st = automaton_finish(&g->automaton, err);
    if (st != OK) {
        grammar_unref(g);
        return st;
    }
    *out = g;
    return OK;
}

enum status grammar_compile_schema(const char *text, size_t len, bool strict, struct grammar **out,
                                   struct error *err)
{
    struct grammar_part part = {.kind = GRAMMAR_SCHEMA, .text = text, .len = len, .strict = strict};
    return grammar_compile(&part, NULL, out, err);
}

enum status grammar_compile_json_object(struct grammar **out, struct error *err)
{
    struct grammar_part part = {.kind = GRAMMAR_JSON_OBJECT};
    return grammar_compile(&part, NULL, out, err);
}

struct grammar *grammar_ref(struct grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_unref(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    automaton_done(&g->automaton);
    mask_shelf_free(g->masks);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

bool grammar_is_shared(const struct grammar *g)
{
    return atomic_load(&g->refs) > 1;
}

size_t grammar_automaton_bytes(const struct grammar *g)
{
    return sizeof *g + automaton_bytes(&g->automaton);
}

size_t grammar_bytes(struct grammar *g)
{
    pthread_mutex_lock(&g->lock);
    size_t bytes = g->masks ? mask_shelf_bytes(g->masks) : 0;
    pthread_mutex_unlock(&g->lock);
    return bytes + grammar_automaton_bytes(g);
}

uint32_t grammar_room(const struct automaton *a, uint32_t node, uint32_t free_frames)
{
    if (!(a->nodes[node].flags & NODE_CALLS))
        return 0;
    uint32_t most = a->height_max + GRAMMAR_LOOKAHEAD;
    return free_frames < most ? free_frames : most;
}

struct mask_shelf *grammar_open(struct grammar *g, const struct grammar_vocab *v)
{
    pthread_mutex_lock(&g->lock);
    assert(!g->vocab || g->vocab == v);
    g->vocab = v;
    if (!g->masks)
        g->masks = mask_shelf_new(v->store, g->automaton.node_count);
    struct mask_shelf *shelf = g->masks;
    pthread_mutex_unlock(&g->lock);
    if (shelf)
        mask_shelf_use(shelf);
    return shelf;
}

struct mask_entry *grammar_shared_mask(const struct grammar *g, const struct grammar_vocab *v,
                                       uint32_t node, uint32_t free_frames, uint64_t *key)
{
    bool core = node < v->core.node_count;
    uint32_t depth = grammar_room(core ? &v->core : &g->automaton, node, free_frames);
    *key = (uint64_t)MASK_KEY_NONE;
    if (core && depth == grammar_room(&v->core, node, GRAMMAR_DEPTH))
        return v->core_masks[node];
    *key = (uint64_t)node << 8 | depth;
    return NULL;
}

struct mask_entry *grammar_make_mask(const struct grammar *g, const struct grammar_vocab *v,
                                     struct mask_shelf *shelf, uint64_t key)
{
    struct mask_entry *e = mask_entry_new(&g->automaton, &v->trie, v->words, (uint32_t)(key >> 8),
                                          (uint32_t)(key & 0xff));
    return e ? mask_shelf_add(shelf, key, e) : NULL;
}
