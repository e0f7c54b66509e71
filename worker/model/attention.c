#include "worker/model/attention.h"

#include "worker/model/mla.h"
#include "worker/model/pass.h"

/* Heads go to different members in pieces of this many at least, unless members would idle. */
enum { PIECE_HEADS = 8 };
/* Results of segments that wait: about 8 MiB with values of 128. */
enum { PARTS_MOST = 1 << 14 };

/* The first row behind those that are one sequence's neighbours. */
static int run_end(const struct pass *p, int first)
{
    int i = first + 1;
    while (i < p->count && p->rows[i].blocks == p->rows[i - 1].blocks &&
           p->rows[i].position == p->rows[i - 1].position + 1)
        i++;
    return i;
}

void attention_plan(struct pass *p)
{
    const struct model *m = p->m;
    bool latent = m->config.attention == ATTENTION_LATENT;
    p->tile_count = p->run_count = 0;
    p->segments = 1;
    for (int i = 0, end; i < p->count; i = end) {
        end = run_end(p, i);
        bool expanded = latent && mla_expands(m, p->rows[i].position, end - i);
        for (int row = i; row < end; row++)
            m->scratch.expanded[row] = expanded;
        if (expanded)
            m->scratch.runs[p->run_count++] = (struct row_tile){i, end - i};
        int segments = p->rows[end - 1].position / ATTEND_SEGMENT + 1;
        if (!expanded && segments > p->segments)
            p->segments = segments;
        for (int row = i; row < end && !expanded; row += ATTENTION_ROWS)
            m->scratch.tiles[p->tile_count++] =
                (struct row_tile){row, end - row < ATTENTION_ROWS ? end - row : ATTENTION_ROWS};
    }
}

static size_t state_floats(int sharing)
{
    size_t bytes = (size_t)ATTENTION_ROWS * (size_t)sharing * sizeof(struct attend_state);
    return (bytes / sizeof(float) + 15) / 16 * 16;
}

size_t attention_scratch(const struct model *m)
{
    const struct model_config *c = &m->config;
    if (c->attention == ATTENTION_LATENT) {
        size_t folded = state_floats(c->heads) + attend_scratch(m->cache_floats, c->mla.kv_rank);
        size_t expanded = m->options.deterministic ? 0 : mla_expand_scratch(m);
        return folded > expanded ? folded : expanded;
    }
    return state_floats(c->heads / c->gqa.kv_heads) +
           attend_scratch(c->gqa.head_stride, c->gqa.head_stride);
}

/* The cache's images, and where in them the head's keys and values are. */
void attention_aim(const struct pass *p, const struct attention *a, int kv_head, struct attend *out)
{
    const struct kv_shape *s = kv_shape_of(p->kv);
    struct kv_layout l;
    kv_layout(s, &l);
    size_t element = s->type == KV_F32 ? 4 : s->type == KV_BF16 ? 2 : 1;
    size_t key = (size_t)kv_head * (size_t)a->key_count;
    size_t value = (size_t)kv_head * (size_t)a->value_count;
    size_t group = s->type == KV_INT8 ? (size_t)s->group : 1;
    bool own = s->values > 0;
    *out = (struct attend){
        .type = s->type,
        .value_type = s->type,
        .group = s->group,
        .rounded = p->m->options.rounded,
        .cache = kv_block(p->kv, a->layer, 0),
        .value_cache = kv_block(p->kv, a->layer, 0),
        .block_bytes = l.bytes,
        .value_block_bytes = l.bytes,
        .keys = key * KV_BLOCK_TOKENS * element,
        .key_scales = l.key_scales + key / group * KV_BLOCK_TOKENS * sizeof(float),
        .values = own ? l.values + value * element : 0,
        .value_scales =
            own ? l.value_scales + value / group * KV_BLOCK_TOKENS * sizeof(float) : l.key_scales,
        .value_stride = own ? (size_t)s->values * element : 0,
        .key_count = a->key_count,
        .value_count = a->value_count,
    };
}

/* The first position that a row attends to. */
static int row_from(const struct pass *p, const struct attention *a, int row)
{
    int from = p->rows[row].position + 1 - a->window;
    return a->window && from > 0 ? from : 0;
}

/* Some rows and heads, numbered: the heads of a row lie together. */
struct piece {
    struct row_tile rows;
    int head, heads;
    int segment; /* the only one to attend to; -1: all */
};

static float *out_of(const struct attention *a, int row, int head)
{
    return a->out + (size_t)row * a->out_row + (size_t)head * (size_t)a->value_count;
}

/* Where the result of one segment waits to be merged with the others. */
static size_t part_of(const struct pass *p, const struct attention *a, int row, int head)
{
    return ((size_t)row * (size_t)a->heads + (size_t)head) * (size_t)p->segments;
}

static float *part_out(const struct pass *p, const struct attention *a, size_t part)
{
    return p->m->scratch.parts + part * (size_t)a->value_count;
}

static void attend_segment(const struct pass *p, const struct attention *a, struct attend *k,
                           const struct piece *piece, struct attend_state *states)
{
    const struct scratch *s = &p->m->scratch;
    int queries = piece->rows.count * piece->heads, i = 0;
    while (i < queries) {
        for (k->count = 0; i < queries && k->count < ATTEND_QUERIES; i++) {
            int row = piece->rows.first + i / piece->heads, head = piece->head + i % piece->heads;
            int from = row_from(p, a, row);
            if (p->rows[row].position < k->begin || from >= k->begin + ATTEND_SEGMENT)
                continue;
            size_t part = part_of(p, a, row, head) + (size_t)piece->segment;
            k->queries[k->count] =
                a->queries + (size_t)row * a->query_row + (size_t)head * a->query_stride;
            k->out[k->count] = piece->segment < 0 ? out_of(a, row, head) : part_out(p, a, part);
            k->from[k->count] = from;
            k->tokens[k->count] = p->rows[row].position + 1;
            k->states[k->count] = piece->segment < 0 ? &states[i] : &s->part_states[part];
            if (piece->segment >= 0)
                s->part_states[part] = (struct attend_state){0};
            k->count++;
        }
        if (k->count)
            p->m->kernels->attend(k);
    }
}

/* From all segments of the context, or from one, whose result then waits. */
static void attend_piece(const struct pass *p, const struct attention *a, const struct piece *piece,
                         float *scratch)
{
    struct attend k;
    struct attend_state *states = (struct attend_state *)scratch;
    int queries = piece->rows.count * piece->heads;
    const struct batch_row *last = &p->rows[piece->rows.first + piece->rows.count - 1];
    attention_aim(p, a, piece->head / (a->heads / a->kv_heads), &k);
    k.blocks = last->blocks;
    k.scratch = scratch + state_floats(a->heads / a->kv_heads);
    if (piece->segment >= 0) {
        k.begin = piece->segment * ATTEND_SEGMENT;
        attend_segment(p, a, &k, piece, NULL);
        return;
    }
    memset(states, 0, (size_t)queries * sizeof *states);
    k.begin = row_from(p, a, piece->rows.first) / ATTEND_SEGMENT * ATTEND_SEGMENT;
    for (; k.begin <= last->position; k.begin += ATTEND_SEGMENT)
        attend_segment(p, a, &k, piece, states);
    for (int i = 0; i < queries; i++) {
        float *out =
            out_of(a, piece->rows.first + i / piece->heads, piece->head + i % piece->heads);
        p->m->kernels->attend_finish(out, &states[i], a->value_count);
    }
}

/* How a tile's work on one key is cut: into pieces of the heads, and into segments if there are
 * still fewer tasks than members. */
struct cut {
    int pieces, segments;
};

static struct cut cut_of(const struct pass *p, const struct attention *a)
{
    int threads = pool_members(p->m->pool), group = a->heads / a->kv_heads;
    int tasks = p->tile_count * a->kv_heads;
    size_t parts = (size_t)p->count * (size_t)a->heads * (size_t)p->segments;
    struct cut cut = {1, 1};
    while (tasks * cut.pieces < 2 * threads && group / cut.pieces >= 2 * PIECE_HEADS)
        cut.pieces *= 2;
    if (tasks * cut.pieces < threads && parts <= attention_parts(p->m))
        cut.segments = p->segments;
    while (tasks * cut.pieces * cut.segments < threads && group / cut.pieces >= 2)
        cut.pieces *= 2;
    return cut;
}

size_t attention_parts(const struct model *m)
{
    const struct model_config *c = &m->config;
    size_t segments = ((size_t)c->context_tokens + ATTEND_SEGMENT - 1) / ATTEND_SEGMENT;
    size_t parts = (size_t)pool_threads(m->pool) * (size_t)c->heads * segments;
    if (pool_threads(m->pool) == 1 || segments == 1)
        return 0;
    return parts < PARTS_MOST ? parts : PARTS_MOST;
}

int attention_tasks(const struct pass *p, const struct attention *a)
{
    struct cut cut = cut_of(p, a);
    return p->tile_count * a->kv_heads * cut.pieces * cut.segments;
}

void attention_task(const struct pass *p, const struct attention *a, int task, int member)
{
    const struct scratch *s = &p->m->scratch;
    struct cut cut = cut_of(p, a);
    int group = a->heads / a->kv_heads, segment = task % cut.segments;
    task /= cut.segments;
    int part = task % cut.pieces, from = group * part / cut.pieces;
    task /= cut.pieces;
    /* The last rows of a prompt first: they have the most to do. */
    struct piece piece = {.rows = s->tiles[p->tile_count - 1 - task / a->kv_heads],
                          .head = task % a->kv_heads * group + from,
                          .heads = group * (part + 1) / cut.pieces - from,
                          .segment = cut.segments > 1 ? segment : -1};
    attend_piece(p, a, &piece, s->members[member].attention);
}

/* The segments of one row and head, in order. */
static void merge(const struct pass *p, const struct attention *a, int row, int head)
{
    const struct kernels *k = p->m->kernels;
    float *out = out_of(a, row, head);
    struct attend_state state = {0};
    size_t part = part_of(p, a, row, head);
    int last = p->rows[row].position / ATTEND_SEGMENT;
    for (int i = row_from(p, a, row) / ATTEND_SEGMENT; i <= last; i++)
        k->attend_merge(out, &state, part_out(p, a, part + (size_t)i),
                        &p->m->scratch.part_states[part + (size_t)i], a->value_count);
    k->attend_finish(out, &state, a->value_count);
}

void attention_end(const struct pass *p, const struct attention *a, int member)
{
    if (cut_of(p, a).segments == 1)
        return;
    pool_barrier(p->m->pool);
    for (int i = pass_first(p, member); i < p->count * a->heads; i = pass_next(p, i))
        if (!p->m->scratch.expanded[i / a->heads])
            merge(p, a, i / a->heads, i % a->heads);
}

void attention_run(const struct pass *p, const struct attention *a, int member)
{
    int tasks = attention_tasks(p, a);
    for (int i = pass_first(p, member); i < tasks; i = pass_next(p, i))
        attention_task(p, a, i, member);
    attention_end(p, a, member);
}
