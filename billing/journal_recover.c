#include "billing/journal_segment.h"

/*
 * Pairs ADMITs with SETTLEs over all shards. A SETTLE may stand in another shard than its ADMIT
 * and be read first, so settled ids are remembered too; of an open ADMIT only its place is kept
 * in memory, and its record is read again at the end.
 */
enum { TABLE_FIRST = 1024 };

struct seen {
    struct uuid id; /* nil: an empty slot */
    bool admitted, settled;
    uint32_t segment; /* index into the list */
    int64_t offset;   /* of the ADMIT */
};

struct table {
    struct seen *slots;
    size_t size, used; /* size is a power of two */
};

static struct seen *find(const struct table *t, const struct uuid *id)
{
    uint64_t hash;
    memcpy(&hash, id->bytes + 8, sizeof hash); /* the random half of a UUIDv7 */
    size_t i = hash & (t->size - 1);
    while (!uuid_is_nil(&t->slots[i].id) && !uuid_equal(&t->slots[i].id, id))
        i = (i + 1) & (t->size - 1);
    return &t->slots[i];
}

static enum status grow(struct table *t)
{
    struct table next = {.size = t->size ? t->size * 2 : TABLE_FIRST, .used = t->used};
    next.slots = calloc(next.size, sizeof *next.slots);
    if (!next.slots)
        return NOMEM;
    for (size_t i = 0; i < t->size; i++)
        if (!uuid_is_nil(&t->slots[i].id))
            *find(&next, &t->slots[i].id) = t->slots[i];
    free(t->slots);
    *t = next;
    return OK;
}

static struct seen *find_or_add(struct table *t, const struct uuid *id)
{
    if (t->used * 2 >= t->size && grow(t) != OK)
        return NULL;
    struct seen *s = find(t, id);
    if (uuid_is_nil(&s->id)) {
        s->id = *id;
        t->used++;
    }
    return s;
}

struct recovery {
    const char *dir;
    struct segment_list list;
    struct table table;
    journal_recover_fn *fn;
    void *arg;
};

static enum status nonsense(const struct segment_reader *r, int64_t offset, struct error *err)
{
    return error_set(err, CORRUPT, "%s: the record at offset %lld makes no sense", segment_file(r),
                     (long long)offset);
}

static enum status take_record(struct recovery *v, struct segment_reader *r, uint32_t segment,
                               const struct record_view *view, struct error *err)
{
    int64_t offset = segment_offset(r) - (int64_t)view->bytes;
    struct meter_settle settle;
    struct meter_context *context = &settle.context;
    if (view->type == RECORD_ADMIT) {
        if (record_unpack_admit(view, context) != OK)
            return nonsense(r, offset, err);
    } else if (view->type == RECORD_SETTLE) {
        if (record_unpack_settle(view, &settle) != OK)
            return nonsense(r, offset, err);
    } else {
        return OK; /* a type of a newer version */
    }
    struct seen *s = find_or_add(&v->table, &context->request_id);
    if (!s)
        return error_set(err, NOMEM, "out of memory while reading the journal");
    if (view->type == RECORD_ADMIT) {
        s->admitted = true;
        s->segment = segment;
        s->offset = offset;
    } else {
        s->settled = true;
        v->fn(context, &settle, v->arg);
    }
    return OK;
}

static enum status read_segment(struct recovery *v, uint32_t segment, struct error *err)
{
    struct segment_reader *r;
    enum status st = segment_open(v->dir, v->list.items[segment], &r, err);
    if (st != OK)
        return st == NOT_FOUND ? OK : st; /* billing has deleted it meanwhile */
    struct record_view view;
    enum segment_verdict verdict;
    while (st == OK && (verdict = segment_next(r, &view, err)) == SEGMENT_RECORD)
        st = take_record(v, r, segment, &view, err);
    if (st == OK && verdict == SEGMENT_CORRUPT)
        st = CORRUPT;
    else if (st == OK && verdict == SEGMENT_FAILED)
        st = IO_FAILED;
    else if (st == OK && verdict == SEGMENT_TORN)
        st = error_set(err, CORRUPT, "%s: the segment ends inside a record at offset %lld",
                       segment_file(r), (long long)segment_offset(r));
    segment_close(r);
    return st;
}

static enum status report_open(struct recovery *v, const struct seen *s, struct error *err)
{
    struct segment_reader *r;
    enum status st = segment_open(v->dir, v->list.items[s->segment], &r, err);
    if (st != OK)
        return st == NOT_FOUND ? OK : st;
    struct record_view view;
    struct meter_context context;
    segment_seek(r, s->offset);
    if (segment_next(r, &view, err) != SEGMENT_RECORD || view.type != RECORD_ADMIT ||
        record_unpack_admit(&view, &context) != OK)
        st = error_set(err, CORRUPT, "%s: the record at offset %lld reads otherwise than before",
                       segment_file(r), (long long)s->offset);
    else
        v->fn(&context, NULL, v->arg);
    segment_close(r);
    return st;
}

static enum status recover(struct recovery *v, struct error *err)
{
    enum status st = OK;
    for (size_t i = 0; st == OK && i < v->list.count; i++) {
        bool newest =
            i + 1 == v->list.count || v->list.items[i + 1].shard != v->list.items[i].shard;
        if (newest)
            st = segment_repair(v->dir, v->list.items[i], err);
        if (st == OK)
            st = read_segment(v, (uint32_t)i, err);
    }
    for (size_t i = 0; st == OK && i < v->table.size; i++)
        if (v->table.slots[i].admitted && !v->table.slots[i].settled)
            st = report_open(v, &v->table.slots[i], err);
    return st;
}

enum status journal_recover(const char *dir, journal_recover_fn *fn, void *arg, struct error *err)
{
    struct recovery v = {.dir = dir, .fn = fn, .arg = arg};
    struct error why;
    enum status st = segment_list(dir, &v.list, &why);
    if (st == NOT_FOUND)
        return OK;
    if (st != OK)
        return error_set(err, st, "%s", why.text);
    st = recover(&v, err);
    free(v.table.slots);
    segment_list_done(&v.list);
    return st;
}
