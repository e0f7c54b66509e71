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

bool mla_expands(const struct model *m, int position, int rows)
{
    const struct mla_config *c = &m->config.mla;
    double keys = c->nope_dims + c->rope_dims, values = c->value_dims;
    if (m->options.deterministic || c->value_dims % 16 || (c->nope_dims + c->rope_dims) % 2 ||
        keys > m->cache_floats)
        return false;
    double pairs = (double)rows * (position + (rows + 1) / 2.0);
    double up = (double)c->kv_rank * (c->nope_dims + c->value_dims);
    double folded = pairs * (m->cache_floats + c->kv_rank) + rows * up;
    double expanded = pairs * (keys + values) + (position + rows) * up;
    return expanded < 0.9 * folded; /* and some copying */
}

/* What a member works with: of a segment, the latents, and one head's keys and values. */
struct expansion {
    float *latents; /* [ATTEND_SEGMENT][kv_rank] */
    float *keys;    /* [SEGMENT_BLOCKS][nope + rope][16], as in a cache */
    float *values;  /* [ATTEND_SEGMENT][value_dims] */
    float *narrow;  /* [ROW_TILE][nope], the keys in rows */
    float *wide;    /* [cache_floats][16], one block of the cache */
    float *attend;
    const struct member_scratch *own;
};

static size_t divide(const struct model *m, float *memory, struct expansion *out)
{
    const struct mla_config *c = &m->config.mla;
    const size_t sizes[] = {
        (size_t)ATTEND_SEGMENT * (size_t)c->kv_rank,
        (size_t)ATTEND_SEGMENT * (size_t)(c->nope_dims + c->rope_dims),
        (size_t)ATTEND_SEGMENT * (size_t)c->value_dims,
        (size_t)ROW_TILE * (size_t)m->query_panels * 16,
        (size_t)m->cache_floats * 16,
        attend_scratch(c->value_dims),
    };
    float **parts[] = {&out->latents, &out->keys, &out->values,
                       &out->narrow,  &out->wide, &out->attend};
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

/* The latents of a segment in rows, and the rotated keys, which all heads share. */
static void widen_segment(const struct model *m, const struct attend *cache, int tokens,
                          const struct expansion *e)
{
    const struct mla_config *c = &m->config.mla;
    size_t rank = (size_t)c->kv_rank, nope = (size_t)c->nope_dims, rope = (size_t)c->rope_dims;
    for (int b = 0; b * KV_BLOCK_TOKENS < tokens; b++) {
        float *rows = e->latents + (size_t)b * KV_BLOCK_TOKENS * rank;
        int left = tokens - b * KV_BLOCK_TOKENS;
        m->kernels->attend_widen(cache, b, e->wide);
        for (int t = 0; t < KV_BLOCK_TOKENS && t < left; t++)
            for (size_t d = 0; d < rank; d++)
                rows[(size_t)t * rank + d] = e->wide[d * KV_BLOCK_TOKENS + (size_t)t];
        memcpy(e->keys + ((size_t)b * (nope + rope) + nope) * KV_BLOCK_TOKENS,
               e->wide + rank * KV_BLOCK_TOKENS, rope * KV_BLOCK_TOKENS * sizeof(float));
    }
}

static struct product of_latents(const struct matrix *w, const float *latents, int count,
                                 float *out)
{
    return (struct product){.w = w,
                            .end = w->panels,
                            .in = {.data = latents, .stride = (size_t)w->cols},
                            .count = count,
                            .out = out,
                            .out_stride = (size_t)w->rows};
}

/* One head's keys and values of the segment. */
static void expand_head(const struct model *m, const struct mla *l, int head, int tokens,
                        const struct expansion *e)
{
    const struct mla_config *c = &m->config.mla;
    size_t nope = (size_t)c->nope_dims, width = nope + (size_t)c->rope_dims;
    size_t rank = (size_t)c->kv_rank;
    struct product values = of_latents(&l->value[head], e->latents, tokens, e->values);
    pass_panels(m, e->own, &values);
    for (int first = 0; first < tokens; first += ROW_TILE) {
        int count = tokens - first < ROW_TILE ? tokens - first : ROW_TILE;
        struct product keys =
            of_latents(&l->key_rows[head], e->latents + (size_t)first * rank, count, e->narrow);
        pass_panels(m, e->own, &keys);
        for (int i = 0; i < count; i++) {
            int t = first + i;
            float *column = e->keys + (size_t)(t / KV_BLOCK_TOKENS) * width * KV_BLOCK_TOKENS +
                            t % KV_BLOCK_TOKENS;
            for (size_t d = 0; d < nope; d++)
                column[d * KV_BLOCK_TOKENS] = e->narrow[(size_t)i * nope + d];
        }
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
    struct attend a = {.type = KV_F32,
                       .cache = (const uint8_t *)e->keys,
                       .block_bytes = keys * KV_BLOCK_TOKENS * sizeof(float),
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
    struct expansion e = {.own = own};
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
