/*
 * Latent attention for many rows of a prompt at once. Folding a query makes its products with the
 * cache kv_rank + rope_dims wide; a head's own keys and values are several times narrower. Where
 * many rows attend to the same positions, it is cheaper to make these keys and values from the
 * latents, segment by segment, and let all rows attend to them. The sums are the same but for
 * rounding.
 */
#include <assert.h>

#include "worker/model/mla.h"

enum { SEGMENT_BLOCKS = ATTEND_SEGMENT / KV_BLOCK_TOKENS };

void mla_cost(const struct model *m, double position, double rows, bool expanded,
              struct mla_cost *out)
{
    const struct mla_config *c = &m->config.mla;
    double pairs = rows * (position + (rows + 1) / 2);
    double per_pair =
        expanded ? c->nope_dims + c->rope_dims + c->value_dims : m->cache_floats + c->kv_rank;
    double per_weight = (double)c->kv_rank * (c->nope_dims + c->value_dims);
    *out = (struct mla_cost){pairs * per_pair, (expanded ? position + rows : rows) * per_weight};
}

bool mla_expands(const struct model *m, int position, int rows)
{
    const struct mla_config *c = &m->config.mla;
    if (m->options.deterministic || c->value_dims % 16 || c->nope_dims % 2 || c->rope_dims % 2 ||
        c->nope_dims + c->rope_dims > m->cache_floats)
        return false;
    struct mla_cost folded, expanded;
    mla_cost(m, position, rows, false, &folded);
    mla_cost(m, position, rows, true, &expanded);
    /* And some copying. */
    return expanded.attending + expanded.weights < 0.9 * (folded.attending + folded.weights);
}

/* What a member works with: of a segment, the latents, and one head's keys and values. */
struct expansion {
    float *latents; /* [ATTEND_SEGMENT][kv_rank], in the type that keys' and values' weights want */
    size_t stride;  /* floats of one */
    enum input_type input;
    float *row;    /* one of them in floats */
    float *keys;   /* [SEGMENT_BLOCKS][nope + rope][16], as in a cache of the type below */
    float *values; /* [ATTEND_SEGMENT][value_dims] */
    float *narrow; /* [ROW_TILE][nope], the keys in rows */
    float *halves; /* two rows as bfloat16 */
    float *wide;   /* [cache_floats][16], one block of the cache */
    float *attend;
    enum kv_type type; /* of keys: BF16 where they may be rounded and that is fast */
};

static size_t divide(const struct model *m, float *memory, struct expansion *out)
{
    const struct mla_config *c = &m->config.mla;
    const size_t sizes[] = {
        (size_t)ATTEND_SEGMENT * (size_t)c->kv_rank,
        (size_t)c->kv_rank,
        (size_t)ATTEND_SEGMENT * (size_t)(c->nope_dims + c->rope_dims),
        (size_t)ATTEND_SEGMENT * (size_t)c->value_dims,
        (size_t)ROW_TILE * (size_t)m->query_panels * 16,
        ((size_t)m->query_panels + 1) * 32,
        (size_t)m->cache_floats * 16,
        attend_scratch(c->nope_dims + c->rope_dims, c->value_dims),
    };
    float **parts[] = {&out->latents, &out->row,    &out->keys, &out->values,
                       &out->narrow,  &out->halves, &out->wide, &out->attend};
    size_t used = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        *parts[i] = memory ? memory + used : NULL;
        used += (sizes[i] + 15) / 16 * 16;
    }
    return used;
}

size_t mla_expand_scratch(const struct model *m)
{
    struct expansion parts;
    return divide(m, NULL, &parts);
}

/* Sixteen positions' values of the keys d and d + 1, in columns, onto a block's keys. */
static void put_columns(const struct model *m, const struct expansion *e, float *block, size_t d,
                        const float *columns)
{
    if (e->type == KV_F32) {
        memcpy(block + d * KV_BLOCK_TOKENS, columns, 2 * KV_BLOCK_TOKENS * sizeof *block);
        return;
    }
    uint16_t *to = (uint16_t *)block + d * KV_BLOCK_TOKENS;
    uint16_t *even = (uint16_t *)e->halves, *odd = even + 32;
    m->kernels->convert(INPUT_BF16, columns, 0, KV_BLOCK_TOKENS, KV_BLOCK_TOKENS, even);
    m->kernels->convert(INPUT_BF16, columns + KV_BLOCK_TOKENS, 0, KV_BLOCK_TOKENS, KV_BLOCK_TOKENS,
                        odd);
    for (int t = 0; t < KV_BLOCK_TOKENS; t++) {
        to[2 * t] = even[t];
        to[2 * t + 1] = odd[t];
    }
}

/* One position's first n keys, in a row, onto a block's keys. */
static void put_row(const struct model *m, const struct expansion *e, float *block, int slot,
                    const float *row)
{
    int n = m->config.mla.nope_dims;
    if (e->type == KV_F32) {
        for (int d = 0; d < n; d++)
            block[d * KV_BLOCK_TOKENS + slot] = row[d];
        return;
    }
    const uint32_t *pairs = (const uint32_t *)e->halves;
    m->kernels->convert(INPUT_BF16, row, 0, n, n, e->halves);
    for (int d = 0; d < n / 2; d++)
        ((uint32_t *)block)[d * KV_BLOCK_TOKENS + slot] = pairs[d];
}

static float *keys_of(const struct model *m, const struct expansion *e, int block)
{
    const struct mla_config *c = &m->config.mla;
    size_t floats = (size_t)(c->nope_dims + c->rope_dims) * KV_BLOCK_TOKENS;
    return e->keys + (size_t)block * (e->type == KV_F32 ? floats : floats / 2);
}

/* The latents of a segment in rows, and the rotated keys, which all heads share. */
static void widen_segment(const struct model *m, const struct attend *cache, int tokens,
                          const struct expansion *e)
{
    const struct mla_config *c = &m->config.mla;
    size_t rank = (size_t)c->kv_rank, nope = (size_t)c->nope_dims;
    for (int b = 0; b * KV_BLOCK_TOKENS < tokens; b++) {
        float *to = e->latents + (size_t)b * KV_BLOCK_TOKENS * e->stride;
        int left = tokens - b * KV_BLOCK_TOKENS;
        m->kernels->attend_widen(cache, b, e->wide);
        for (int t = 0; t < KV_BLOCK_TOKENS && t < left; t++, to += e->stride) {
            for (size_t d = 0; d < rank; d++)
                e->row[d] = e->wide[d * KV_BLOCK_TOKENS + (size_t)t];
            m->kernels->convert(e->input, e->row, 0, c->kv_rank, c->kv_rank, to);
        }
        for (size_t d = 0; d < (size_t)c->rope_dims; d += 2)
            put_columns(m, e, keys_of(m, e, b), nope + d, e->wide + (rank + d) * KV_BLOCK_TOKENS);
    }
}

/* w times the latents from the given one on. */
static void multiply(const struct model *m, const struct expansion *e, const struct matrix *w,
                     const struct row_tile *latents, float *out)
{
    const float *from = e->latents + (size_t)latents->first * e->stride;
    m->kernels->matmul(
        &(struct product){.w = w,
                          .end = w->panels,
                          .in = {.data = from, .stride = e->stride, .type = e->input},
                          .count = latents->count,
                          .out = out,
                          .out_stride = (size_t)w->rows});
}

/* One head's keys and values of the segment. */
static void expand_head(const struct model *m, const struct mla *l, int head, int tokens,
                        const struct expansion *e)
{
    const struct mla_config *c = &m->config.mla;
    multiply(m, e, &l->value[head], &(struct row_tile){0, tokens}, e->values);
    struct row_tile t = {0};
    for (; t.first < tokens; t.first += ROW_TILE) {
        t.count = tokens - t.first < ROW_TILE ? tokens - t.first : ROW_TILE;
        multiply(m, e, &l->key_rows[head], &t, e->narrow);
        for (int i = 0; i < t.count; i++)
            put_row(m, e, keys_of(m, e, (t.first + i) / KV_BLOCK_TOKENS),
                    (t.first + i) % KV_BLOCK_TOKENS, e->narrow + (size_t)i * (size_t)c->nope_dims);
    }
}

/* Where a row's query of a head is, unfolded, and its result and state. */
struct span {
    const struct pass *p;
    const struct row_tile *rows;
    int head;
};

static float *out_of(const struct span *s, int row)
{
    const struct model *m = s->p->m;
    return m->scratch.attended + (size_t)row * (size_t)m->attended_floats +
           (size_t)s->head * (size_t)m->config.mla.value_dims;
}

static struct attend_state *state_of(const struct span *s, int row)
{
    const struct model *m = s->p->m;
    return &m->scratch.states[(size_t)row * (size_t)m->config.heads + (size_t)s->head];
}

/* All rows attend to the head's segment that begins at a position. */
static void attend_rows(const struct span *s, int begin, const struct expansion *e)
{
    static const int32_t in_order[SEGMENT_BLOCKS] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                     11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    const struct model *m = s->p->m;
    const struct mla_config *c = &m->config.mla;
    size_t keys = (size_t)(c->nope_dims + c->rope_dims), values = (size_t)c->value_dims;
    size_t query_row = (size_t)m->config.heads * (size_t)m->cache_floats;
    struct attend a = {.type = e->type,
                       .value_type = KV_F32,
                       .rounded = e->type == KV_BF16,
                       .cache = (const uint8_t *)e->keys,
                       .block_bytes =
                           (size_t)((uint8_t *)keys_of(m, e, 1) - (uint8_t *)keys_of(m, e, 0)),
                       .value_cache = (const uint8_t *)e->values,
                       .value_block_bytes = values * KV_BLOCK_TOKENS * sizeof(float),
                       .value_stride = values * sizeof(float),
                       .blocks = in_order,
                       .key_count = (int)keys,
                       .value_count = (int)values,
                       .scratch = e->attend};
    int end = s->rows->first + s->rows->count, row = s->rows->first;
    while (row < end) {
        for (a.count = 0; row < end && a.count < ATTEND_QUERIES; row++) {
            int tokens = s->p->rows[row].position + 1 - begin;
            if (tokens <= 0)
                continue;
            a.queries[a.count] = m->scratch.queries + (size_t)row * query_row +
                                 (size_t)s->head * (size_t)m->cache_floats;
            a.tokens[a.count] = tokens;
            a.out[a.count] = out_of(s, row);
            a.states[a.count++] = state_of(s, row);
        }
        if (a.count)
            m->kernels->attend(&a);
    }
}

void mla_expand(const struct pass *p, const struct mla *l, const struct mla_part *part,
                const struct member_scratch *own)
{
    const struct model *m = p->m;
    bool rounded = m->options.rounded && m->kernels->bf16;
    struct expansion e = {.type = rounded ? KV_BF16 : KV_F32,
                          .input = model_input(m, &l->value[0])};
    e.stride = kernels_input_bytes(e.input, m->config.mla.kv_rank) / sizeof(float);
    divide(m, own->attention, &e);
    struct span s = {.p = p, .rows = &part->rows};
    int end = part->rows.first + part->rows.count;
    int context = p->rows[end - 1].position + 1;
    struct attend cache;
    attention_aim(p, part->attention, 0, &cache);
    cache.blocks = p->rows[end - 1].blocks;
    for (int row = part->rows.first; row < end; row++)
        for (s.head = part->head; s.head < part->head_end; s.head++)
            *state_of(&s, row) = (struct attend_state){0};
    for (cache.begin = 0; cache.begin < context; cache.begin += ATTEND_SEGMENT) {
        int left = context - cache.begin, tokens = left < ATTEND_SEGMENT ? left : ATTEND_SEGMENT;
        widen_segment(m, &cache, tokens, &e);
        for (s.head = part->head; s.head < part->head_end; s.head++) {
            expand_head(m, l, s.head, tokens, &e);
            attend_rows(&s, cache.begin, &e);
        }
    }
    for (int row = part->rows.first; row < end; row++)
        for (s.head = part->head; s.head < part->head_end; s.head++)
            m->kernels->attend_finish(out_of(&s, row), state_of(&s, row), m->config.mla.value_dims);
}
