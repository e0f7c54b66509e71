#include "billing/pricebook.h"

#include "billing/journal.h"

/* Sorted by model, tenant (nil: all), currency and time, so that a search is a binary one. */
struct entry {
    char model[MODEL_NAME_MAX];
    struct uuid tenant_id;
    char currency[4];
    int64_t from_wall_ms, until_wall_ms;
    struct price price;
};

struct pricebook {
    int count;
    struct entry entries[];
};

/* By model, tenant and currency alone. */
static int compare_subject(const struct entry *a, const struct entry *b)
{
    int c = strcmp(a->model, b->model);
    if (c == 0)
        c = memcmp(a->tenant_id.bytes, b->tenant_id.bytes, sizeof a->tenant_id.bytes);
    return c == 0 ? strcmp(a->currency, b->currency) : c;
}

static int compare(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    int c = compare_subject(a, b);
    if (c)
        return c;
    return a->from_wall_ms < b->from_wall_ms ? -1 : a->from_wall_ms > b->from_wall_ms;
}

static void read_entry(const struct pg_result *r, int i, struct entry *e)
{
    *e = (struct entry){
        .from_wall_ms = pg_int(r, i, 3),
        .until_wall_ms = pg_text(r, i, 4) ? pg_int(r, i, 4) : INT64_MAX,
        .price = {pg_int(r, i, 5), pg_int(r, i, 6), pg_int(r, i, 7), pg_int(r, i, 8)},
    };
    snprintf(e->model, sizeof e->model, "%s", pg_text(r, i, 0));
    pg_uuid(r, i, 1, &e->tenant_id); /* stays nil for SQL NULL */
    snprintf(e->currency, sizeof e->currency, "%s", pg_text(r, i, 2));
}

enum status pricebook_load(struct pg *pg, struct pricebook **out, struct error *err)
{
    struct pg_result *r;
    /* Those that ended a day ago price no request any more. */
    enum status st = pg_query(
        pg,
        "SELECT model, tenant_id, currency, ceil(extract(epoch FROM lower(valid)) * 1000)::bigint,"
        " ceil(extract(epoch FROM upper(valid)) * 1000)::bigint, id, input_miss_pico,"
        " input_hit_pico, output_pico FROM prices"
        " WHERE upper(valid) IS NULL OR upper(valid) > now() - interval '1 day'",
        0, NULL, &r, err);
    if (st != OK)
        return st;
    size_t count = (size_t)pg_rows(r);
    struct pricebook *b = calloc(1, sizeof *b + count * sizeof *b->entries);
    if (!b) {
        pg_result_free(r);
        return error_set(err, NOMEM, "out of memory for the prices");
    }
    b->count = (int)count;
    for (int i = 0; i < b->count; i++)
        read_entry(r, i, &b->entries[i]);
    pg_result_free(r);
    qsort(b->entries, count, sizeof *b->entries, compare);
    *out = b;
    return OK;
}

void pricebook_free(struct pricebook *b)
{
    free(b);
}

/* The last entry that is not behind the wanted one, if it is of the same subject and time. */
static const struct entry *search(const struct pricebook *b, const struct entry *wanted)
{
    int low = 0, high = b->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (compare(&b->entries[middle], wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct entry *e = &b->entries[low - 1];
    if (compare_subject(e, wanted) != 0 || wanted->from_wall_ms >= e->until_wall_ms)
        return NULL;
    return e;
}

enum status pricebook_find(const struct pricebook *b, const char *model,
                           const struct uuid *tenant_id, const char *currency, int64_t wall_ms,
                           struct price *out)
{
    struct entry wanted = {.tenant_id = *tenant_id, .from_wall_ms = wall_ms};
    if (strlen(model) >= sizeof wanted.model || strlen(currency) >= sizeof wanted.currency)
        return NOT_FOUND;
    snprintf(wanted.model, sizeof wanted.model, "%s", model);
    snprintf(wanted.currency, sizeof wanted.currency, "%s", currency);
    const struct entry *e = search(b, &wanted);
    if (!e) {
        wanted.tenant_id = (struct uuid){{0}};
        e = search(b, &wanted);
    }
    if (!e)
        return NOT_FOUND;
    *out = e->price;
    return OK;
}
