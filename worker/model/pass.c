#include "worker/model/pass.h"

#include <assert.h>

#include "base/clock.h"

static void cut(int n, int parts, int part, int *begin, int *end)
{
    *begin = (int)((int64_t)n * part / parts);
    *end = (int)((int64_t)n * (part + 1) / parts);
}

void pass_share(const struct pass *p, int n, int member, int *begin, int *end)
{
    cut(n, pool_members(p->m->pool), member, begin, end);
}

int pass_first(const struct pass *p, int member)
{
    return p->count < TICKETS_FROM ? member : pool_ticket(p->m->pool);
}

int pass_next(const struct pass *p, int i)
{
    return p->count < TICKETS_FROM ? i + pool_members(p->m->pool) : pool_ticket(p->m->pool);
}

enum input_type model_input(const struct model *m, const struct matrix *w)
{
    return kernels_input(m->kernels, w, m->options.rounded);
}

/* Rows [begin, end) of floats, in another type. */
static void convert_rows(const struct model *m, const struct input *in, int begin, int end,
                         int cols, const struct input *to)
{
    for (int i = begin; i < end; i++) {
        size_t from = (size_t)(in->index ? in->index[i] : i);
        m->kernels->convert(to->type, (const float *)in->data + from * in->stride, 0, cols, cols,
                            (float *)to->data + (size_t)i * to->stride);
    }
}

void pass_panels(const struct model *m, const struct member_scratch *own, const struct product *p)
{
    struct product part = *p;
    enum input_type type = model_input(m, p->w);
    if (type == INPUT_F32) {
        m->kernels->matmul(p);
        return;
    }
    for (int i = 0; i < p->count; i += ROW_TILE) {
        part.count = p->count - i < ROW_TILE ? p->count - i : ROW_TILE;
        part.out = p->out + (size_t)i * p->out_stride;
        part.in = (struct input){.data = own->converted, .type = type};
        part.in.stride = kernels_input_bytes(type, p->w->cols) / sizeof(float);
        struct input rows = p->in;
        if (rows.index)
            rows.index += i;
        else
            rows.data = (const float *)rows.data + (size_t)i * rows.stride;
        convert_rows(m, &rows, 0, part.count, p->w->cols, &part.in);
        m->kernels->matmul(&part);
    }
}

void pass_matmul(const struct pass *p, int member, const struct matrix *w, const struct input *in,
                 int count, float *out, size_t out_stride)
{
    const struct model *m = p->m;
    int threads = pool_members(m->pool);
    struct product mine = {.w = w, .in = *in, .count = count, .out_stride = out_stride};
    enum input_type type = model_input(m, w);
    cut(w->panels, threads, member, &mine.begin, &mine.end);
    mine.out = out + (size_t)mine.begin * 16;
    if (count <= ROW_TILE || type == INPUT_F32) {
        pass_panels(m, &m->scratch.members[member], &mine);
        return;
    }
    /* Many rows are converted once, by all together: behind those who still read the last. */
    struct input to = {.data = m->scratch.converted, .type = type};
    to.stride = kernels_input_bytes(type, w->cols) / sizeof(float);
    int begin, end;
    cut(count, threads, member, &begin, &end);
    pool_barrier(m->pool);
    convert_rows(m, in, begin, end, w->cols, &to);
    pool_barrier(m->pool);
    mine.in = to;
    m->kernels->matmul(&mine);
}

void pass_norm(const struct pass *p, int member, const float *weight)
{
    const struct model *m = p->m;
    size_t hidden = (size_t)m->config.hidden;
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++)
        m->kernels->rms_norm(m->scratch.normed + (size_t)i * hidden,
                             m->scratch.x + (size_t)i * hidden, weight, m->config.hidden,
                             (float)m->config.epsilon);
}

void pass_attention_out(const struct pass *p, int member, const struct matrix *w, const float *bias)
{
    const struct model *m = p->m;
    const struct scratch *s = &m->scratch;
    size_t hidden = (size_t)m->config.hidden;
    struct input in = {.data = s->attended, .stride = (size_t)m->attended_floats};
    pass_matmul(p, member, w, &in, p->count, s->normed, hidden);
    pool_barrier(m->pool);
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++) {
        float *x = s->x + (size_t)i * hidden;
        m->kernels->add_scaled(x, s->normed + (size_t)i * hidden, 1.0f, m->config.hidden);
        if (bias)
            m->kernels->add_scaled(x, bias, 1.0f, m->config.hidden);
    }
    /* The next phase begins with the same rows' norms: no barrier. */
}

void pass_embed(const struct pass *p, int row, float *out)
{
    const struct model *m = p->m;
    const struct batch_row *r = &p->rows[row];
    size_t hidden = (size_t)m->config.hidden;
    pack_widen(out, m->embedding, (size_t)r->token * hidden, hidden);
    rope_angles(&m->rope, r->position,
                m->scratch.angles + (size_t)row * (size_t)m->config.rope.dims);
}

void pass_layer(struct pass *p, const struct layer *l, int index, int member)
{
    if (p->m->config.attention == ATTENTION_LATENT)
        mla_run(p, l, index, member);
    else
        gqa_run(p, l, index, member);
    mlp_run(p, l, index, member);
}

static void keep_hidden(const struct pass *p, int member)
{
    const struct model *m = p->m;
    const float *from = m->config.mtp_before_norm ? m->scratch.x : m->scratch.normed;
    size_t hidden = (size_t)m->config.hidden;
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++)
        if (p->rows[i].hidden_out)
            memcpy(p->rows[i].hidden_out, from + (size_t)i * hidden, hidden * sizeof(float));
}

void pass_finish(struct pass *p, const float *norm, int member)
{
    struct model *m = p->m;
    if (!p->keeps_hidden && !p->logit_count)
        return;
    pass_norm(p, member, norm);
    if (p->keeps_hidden)
        keep_hidden(p, member);
    if (!p->logit_count)
        return;
    pool_barrier(m->pool);
    struct input in = {.data = m->scratch.normed,
                       .stride = (size_t)m->config.hidden,
                       .index = m->scratch.logit_rows};
    pass_matmul(p, member, &m->head, &in, p->logit_count, p->logits, (size_t)m->config.vocab);
}

void pass_run(void *pass, int member)
{
    struct pass *p = pass;
    struct model *m = p->m;
    int begin, end;
    pass_share(p, p->count, member, &begin, &end);
    for (int i = begin; i < end; i++)
        pass_embed(p, i, m->scratch.x + (size_t)i * (size_t)m->config.hidden);
    for (int i = 0; i < m->config.layers; i++)
        pass_layer(p, &m->layers[i], i, member);
    pass_finish(p, m->norm, member);
}

void pass_start(struct pass *p, void (*run)(void *pass, int member), double work_per_row)
{
    struct model *m = p->m;
    assert(p->count > 0 && p->count <= m->scratch.rows);
    for (int i = 0; i < p->count; i++) {
        const struct batch_row *r = &p->rows[i];
        assert(r->token >= 0 && r->token < m->config.vocab && r->position >= 0 &&
               r->position < m->config.context_tokens);
        if (r->wants_logits)
            m->scratch.logit_rows[p->logit_count++] = i;
        p->keeps_hidden |= r->hidden_out != NULL;
    }
    attention_plan(p);
    double work = work_per_row * p->count;
    bool alone = pool_threads(m->pool) == 1 || pace_alone(&m->pace, work);
    int64_t start = clock_mono_us();
    pool_run(m->pool, alone, run, p);
    pace_note(&m->pace, work, alone, clock_mono_us() - start);
}

/* First call: adds up; second call: hands out. */
struct carving {
    uint8_t *base;
    size_t used;
};

static void *carve(struct carving *c, size_t count, size_t element_bytes)
{
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (count * element_bytes + 63) / 64 * 64;
    return at;
}

static float *floats(struct carving *c, size_t rows, size_t cols)
{
    return carve(c, rows * cols, sizeof(float));
}

static void carve_member(struct carving *c, const struct model *m, struct member_scratch *own,
                         size_t rows)
{
    const struct model_config *f = &m->config;
    size_t experts = (size_t)f->moe.experts, query = (size_t)m->query_panels * 16;
    size_t tile = 2 * TILE_PANELS * 16;
    tile = ROW_TILE * (query > tile ? query : tile);
    const size_t rows_of_tile[] = {(size_t)m->cache_floats, (size_t)f->mla.q_rank};
    for (size_t i = 0; i < 2; i++)
        tile = rows_of_tile[i] > tile ? rows_of_tile[i] : tile;
    if (f->attention == ATTENTION_LATENT)
        own->query_input =
            floats(c, ROW_TILE, (size_t)(f->mla.q_rank ? f->mla.q_rank : f->hidden) + 16);
    own->tile = floats(c, 1, tile);
    own->converted = floats(c, ROW_TILE, (size_t)m->widest + 16);
    own->attention = floats(c, 1, attention_scratch(m));
    own->group_rows = carve(c, rows * (size_t)f->moe.chosen, sizeof *own->group_rows);
    own->group_weights = floats(c, rows, (size_t)f->moe.chosen);
    own->group_place = carve(c, rows * (size_t)f->moe.chosen, sizeof *own->group_place);
    own->group_start = carve(c, experts + 1, sizeof *own->group_start);
    own->groups = carve(c, experts + 1, sizeof *own->groups);
}

static void carve_all(struct carving *c, const struct model *m, struct scratch *s, size_t rows)
{
    const struct model_config *f = &m->config;
    size_t heads = (size_t)f->heads, chosen = (size_t)f->moe.chosen;
    int threads = pool_threads(m->pool);
    s->rows = (int)rows;
    s->x = floats(c, rows, (size_t)f->hidden);
    s->normed = floats(c, rows, (size_t)f->hidden);
    s->projected = floats(c, rows, (size_t)m->projected_floats);
    bool latent = f->attention == ATTENTION_LATENT;
    if (latent) {
        s->queries = floats(c, rows, heads * (size_t)m->cache_floats);
        s->states = carve(c, rows * heads, sizeof *s->states);
        s->latents = floats(c, rows, heads * (size_t)f->mla.kv_rank);
    }
    s->attended = floats(c, rows, (size_t)m->attended_floats);
    s->active = floats(c, rows, (size_t)m->active_floats);
    size_t apart = rows < APART_ROWS ? rows : APART_ROWS;
    s->results = floats(c, apart * (chosen + 1), (size_t)f->hidden);
    s->mlp_input = floats(c, rows, (size_t)f->hidden);
    s->converted = floats(c, rows, (size_t)m->widest);
    s->angles = floats(c, rows, (size_t)f->rope.dims);
    if (m->mtp)
        s->pairs = floats(c, rows, 2 * (size_t)f->hidden);
    s->router_logits = floats(c, rows, (size_t)f->moe.experts);
    s->weights = floats(c, rows, chosen);
    s->experts = carve(c, rows * chosen, sizeof *s->experts);
    s->logit_rows = carve(c, rows, sizeof *s->logit_rows);
    s->tiles = carve(c, rows, sizeof *s->tiles);
    s->runs = carve(c, rows, sizeof *s->runs);
    s->expanded = carve(c, rows, sizeof *s->expanded);
    size_t parts = attention_parts(m);
    s->parts = floats(c, parts, (size_t)(latent ? f->mla.kv_rank : f->gqa.head_stride));
    s->part_states = carve(c, parts, sizeof *s->part_states);
    s->members = carve(c, (size_t)threads, sizeof *s->members);
    for (int i = 0; i < threads; i++) {
        struct member_scratch none;
        carve_member(c, m, s->members ? &s->members[i] : &none, rows);
    }
}

enum status scratch_reserve(struct model *m, int rows, struct error *err)
{
    assert(rows > 0);
    if (rows <= m->scratch.rows)
        return OK;
    struct carving c = {0};
    struct scratch s = {0};
    carve_all(&c, m, &s, (size_t)rows);
    struct store *memory = store_new();
    /* Zeros: the padding between a query's parts is never written. */
    c.base = memory ? store_alloc(memory, c.used) : NULL;
    if (!c.base) {
        store_free(memory);
        return error_set(err, NOMEM, "out of memory for batches of %d tokens", rows);
    }
    s.bytes = c.used;
    c.used = 0;
    carve_all(&c, m, &s, (size_t)rows);
    s.memory = memory;
    scratch_done(&m->scratch);
    m->scratch = s;
    return OK;
}

void scratch_done(struct scratch *s)
{
    store_free(s->memory);
    *s = (struct scratch){0};
}
