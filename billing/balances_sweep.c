#include "billing/balances_sweep.h"

#include "base/buf.h"
#include "base/clock.h"

/* A request is journaled in the turn of the loop that gets Redis's answer, and shipped within
 * seconds; a hold that is unknown after so long will stay so. */
enum { ORPHAN_AGE_MS = 5 * 60 * 1000, HOLDS_MAX = 1 << 20 };

struct held {
    struct uuid gateway_id, request_id;
};

struct held_list {
    struct held *items;
    size_t count, size;
    bool failed;
};

static void add_held(const struct uuid *gateway_id, const struct uuid *request_id, void *arg)
{
    struct held_list *l = arg;
    if (l->count == l->size) {
        size_t more = l->size ? 2 * l->size : 256;
        struct held *items = more <= HOLDS_MAX ? realloc(l->items, more * sizeof *items) : NULL;
        if (!items) {
            l->failed = true;
            return;
        }
        l->items = items;
        l->size = more;
    }
    l->items[l->count++] = (struct held){*gateway_id, *request_id};
}

static const char settled_sql[] =
    "SELECT u.id, u.prompt_tokens + u.completion_tokens, ceil(u.cost_pico / 1000)::bigint, true"
    " FROM unnest($1::uuid[]) i JOIN usage_events u ON u.id = i AND u.day = tg_uuid_day(i)"
    " UNION ALL SELECT i, 0, 0, false FROM unnest($2::uuid[]) i"
    " WHERE NOT EXISTS (SELECT FROM open_holds h WHERE h.request_id = i)"
    " AND NOT EXISTS (SELECT FROM usage_events u WHERE u.id = i AND u.day = tg_uuid_day(i))"
    " AND EXISTS (SELECT FROM journal_cursors WHERE source = $3::uuid)";

/* "{id,id}" */
static enum status put_ids(struct buf *out, const struct held *items, int count, int64_t before_ms)
{
    enum status st = buf_adds(out, "{");
    bool first = true;
    for (int i = 0; st == OK && i < count; i++) {
        char id[UUID_TEXT_SIZE];
        if (uuid_v7_wall_ms(&items[i].request_id) >= before_ms)
            continue;
        uuid_format(&items[i].request_id, id);
        st = buf_addf(out, "%s%s", first ? "" : ",", id);
        first = false;
    }
    return st == OK ? buf_adds(out, "}") : st;
}

static enum status find_settled(const struct sweep *sweep, const struct held *items, int count,
                                struct pg_result **out, struct error *err)
{
    char gateway[UUID_TEXT_SIZE];
    struct buf all, old;
    buf_init(&all, (size_t)(count + 1) * (UUID_TEXT_SIZE + 1));
    buf_init(&old, (size_t)(count + 1) * (UUID_TEXT_SIZE + 1));
    uuid_format(&items->gateway_id, gateway);
    int64_t before_ms = sweep->release ? clock_wall_ms() - ORPHAN_AGE_MS : 0;
    enum status st = put_ids(&all, items, count, INT64_MAX);
    if (st == OK)
        st = put_ids(&old, items, count, before_ms);
    const char *all_text = buf_cstr(&all), *old_text = buf_cstr(&old);
    if (st != OK || !all_text || !old_text)
        st = error_set(err, NOMEM, "out of memory for the balances");
    else
        st = pg_query(sweep->pg, settled_sql, 3, (const char *const[]){all_text, old_text, gateway},
                      out, err);
    buf_done(&all);
    buf_done(&old);
    return st;
}

/* Items of one gateway, at most BALANCE_SETTLE_MAX. */
static enum status sweep_some(const struct sweep *sweep, const struct held *items, int count,
                              struct error *err)
{
    struct pg_result *r;
    enum status st = find_settled(sweep, items, count, &r, err);
    if (st != OK)
        return st;
    struct balance_settle known[BALANCE_SETTLE_MAX], unknown[BALANCE_SETTLE_MAX];
    int known_count = 0, unknown_count = 0;
    for (int i = 0; i < pg_rows(r) && i < BALANCE_SETTLE_MAX; i++) {
        struct balance_settle s = {.tokens = pg_int(r, i, 1), .cost_nano = pg_int(r, i, 2)};
        pg_uuid(r, i, 0, &s.request_id);
        if (pg_bool(r, i, 3))
            known[known_count++] = s;
        else
            unknown[unknown_count++] = s;
    }
    pg_result_free(r);
    struct balance_settles settles = {items->gateway_id, known, known_count};
    st = balance_settle(sweep->redis, &settles, &sweep->status->settled_total, err);
    settles.items = unknown;
    settles.count = unknown_count;
    if (st == OK)
        st = balance_settle(sweep->redis, &settles, &sweep->status->released_total, err);
    return st;
}

enum status balances_sweep(const struct sweep *sweep, struct error *err)
{
    struct held_list l = {0};
    enum status st = balance_each_hold(sweep->redis, add_held, &l, err);
    if (st == OK && l.failed)
        st = error_set(err, NOMEM, "out of memory for the balances");
    size_t n;
    for (size_t i = 0; st == OK && i < l.count; i += n) {
        for (n = 1; n < BALANCE_SETTLE_MAX && i + n < l.count &&
                    uuid_equal(&l.items[i].gateway_id, &l.items[i + n].gateway_id);)
            n++;
        st = sweep_some(sweep, l.items + i, (int)n, err);
    }
    free(l.items);
    return st;
}
