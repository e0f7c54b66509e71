#include "worker/model/attention.h"

#include "worker/model/mla.h"
#include "worker/model/pass.h"

/* Heads go to different members in pieces of this many at least, unless members would idle. */
enum { PIECE_HEADS = 8 };

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
    for (int i = 0, end; i < p->count; i = end) {
        end = run_end(p, i);
        bool expanded = latent && mla_expands(m, p->rows[i].position, end - i);
        for (int row = i; row < end; row++)
            m->scratch.expanded[row] = expanded;
        if (expanded)
            m->scratch.runs[p->run_count++] = (struct row_tile){i, end - i};
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
        size_t folded = state_floats(c->heads) + attend_scratch(c->mla.kv_rank);
        size_t expanded = m->options.deterministic ? 0 : mla_expand_scratch(m);
        return folded > expanded ? folded : expanded;
    }
    return state_floats(c->heads / c->gqa.kv_heads) + attend_scratch(c->gqa.head_dims);
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
        .group = s->group,
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

/* Some rows and heads, numbered: the heads of a row lie together. */
struct piece {
    struct row_tile rows;
    int head, heads;
};

static float *out_of(const struct attention *a, int row, int head)
{
    return a->out + (size_t)row * a->out_row + (size_t)head * (size_t)a->value_count;
}

static void attend_segment(const struct pass *p, const struct attention *a, struct attend *k,
                           const struct piece *piece, struct attend_state *states)
{
    int queries = piece->rows.count * piece->heads, i = 0;
    while (i < queries) {
        for (k->count = 0; i < queries && k->count < ATTEND_QUERIES; i++) {
            int row = piece->rows.first + i / piece->heads, head = piece->head + i % piece->heads;
            if (p->rows[row].position < k->begin)
                continue;
            k->queries[k->count] =
                a->queries + (size_t)row * a->query_row + (size_t)head * a->query_stride;
            k->out[k->count] = out_of(a, row, head);
            k->tokens[k->count] = p->rows[row].position + 1;
            k->states[k->count++] = &states[i];
        }
        if (k->count)
            p->m->kernels->attend(k);
    }
}

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
    memset(states, 0, (size_t)queries * sizeof *states);
    for (k.begin = 0; k.begin <= last->position; k.begin += ATTEND_SEGMENT)
        attend_segment(p, a, &k, piece, states);
    for (int i = 0; i < queries; i++) {
        float *out =
            out_of(a, piece->rows.first + i / piece->heads, piece->head + i % piece->heads);
        p->m->kernels->attend_finish(out, &states[i], a->value_count);
    }
}

/* Into how many pieces the heads that share a key are cut. */
static int pieces_of(const struct pass *p, const struct attention *a)
{
    int threads = pool_members(p->m->pool), group = a->heads / a->kv_heads, pieces = 1;
    int tasks = p->tile_count * a->kv_heads;
    while (tasks * pieces < 2 * threads && group / pieces >= 2 * PIECE_HEADS)
        pieces *= 2;
    while (tasks * pieces < threads && group / pieces >= 2)
        pieces *= 2;
    return pieces;
}

int attention_tasks(const struct pass *p, const struct attention *a)
{
    return p->tile_count * a->kv_heads * pieces_of(p, a);
}

void attention_task(const struct pass *p, const struct attention *a, int task, int member)
{
    const struct scratch *s = &p->m->scratch;
    int group = a->heads / a->kv_heads, pieces = pieces_of(p, a), per_tile = a->kv_heads * pieces;
    int part = task % per_tile % pieces, from = group * part / pieces;
    /* The last rows of a prompt first: they have the most to do. */
    struct piece piece = {.rows = s->tiles[p->tile_count - 1 - task / per_tile],
                          .head = task % per_tile / pieces * group + from,
                          .heads = group * (part + 1) / pieces - from};
    attend_piece(p, a, &piece, s->members[member].attention);
}

void attention_run(const struct pass *p, const struct attention *a, int member)
{
    int tasks = attention_tasks(p, a);
    for (int i = pass_first(p, member); i < tasks; i = pass_next(p, i))
        attention_task(p, a, i, member);
}
