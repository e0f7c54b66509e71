#include "billing/balances.h"

#include <inttypes.h>

#include "base/clock.h"
#include "billing/balances_sweep.h"

enum { SWEEP_MS = 5000, CREDITS_MAX = 1000 };

struct balances {
    struct balance *redis;
    struct uuid leader;
    struct uuid *seen; /* tenants found without a balance, before the last shipping */
    int seen_count;
    int64_t swept_at_ms;
    bool shipped; /* of the round under way: see balances_round */
    struct balances_status status;
};

struct balances *balances_new(struct redis_sync *redis, const struct uuid *leader,
                              struct error *err)
{
    struct balances *b = calloc(1, sizeof *b);
    if (!b) {
        error_set(err, NOMEM, "out of memory for the balances");
        return NULL;
    }
    b->leader = *leader;
    b->redis = balance_new(redis, err);
    if (!b->redis) {
        free(b);
        return NULL;
    }
    return b;
}

void balances_free(struct balances *b)
{
    if (!b)
        return;
    balance_free(b->redis);
    free(b->seen);
    free(b);
}

const struct balances_status *balances_status(const struct balances *b)
{
    return &b->status;
}

struct tenants {
    struct uuid *ids;
    bool *missing;
    int count;
};

static void tenants_done(struct tenants *t)
{
    free(t->ids);
    free(t->missing);
}

static enum status read_tenants(struct pg *pg, struct tenants *out, struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(
        pg, "SELECT id FROM tenants WHERE billing_mode = 'prepaid' ORDER BY id", 0, NULL, &r, err);
    if (st != OK)
        return st;
    struct tenants t = {.count = pg_rows(r)};
    t.ids = calloc((size_t)t.count + 1, sizeof *t.ids);
    t.missing = calloc((size_t)t.count + 1, sizeof *t.missing);
    if (!t.ids || !t.missing) {
        pg_result_free(r);
        tenants_done(&t);
        return error_set(err, NOMEM, "out of memory for the balances");
    }
    for (int i = 0; i < t.count; i++)
        pg_uuid(r, i, 0, &t.ids[i]);
    pg_result_free(r);
    *out = t;
    return OK;
}

/* --- setting one balance --- */

struct ids {
    struct uuid *items;
    size_t count, size;
    bool failed;
};

static void add_id(const struct uuid *gateway_id, const struct uuid *request_id, void *arg)
{
    struct ids *ids = arg;
    if (ids->count == ids->size) {
        size_t more = ids->size ? 2 * ids->size : 64;
        struct uuid *items = realloc(ids->items, more * sizeof *items);
        if (!items) {
            ids->failed = true;
            return;
        }
        ids->items = items;
        ids->size = more;
    }
    ids->items[ids->count++] = *request_id;
}

/* Keeps of the ids those that are usage events. */
static enum status keep_events(struct pg *pg, struct ids *ids, struct error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < ids->count; i++) {
        char id[UUID_TEXT_SIZE];
        struct pg_result *r;
        uuid_format(&ids->items[i], id);
        enum status st = pg_query(
            pg, "SELECT FROM usage_events WHERE id = $1::uuid AND day = tg_uuid_day($1::uuid)", 1,
            (const char *const[]){id}, &r, err);
        if (st != OK)
            return st;
        if (pg_rows(r) > 0)
            ids->items[kept++] = ids->items[i];
        pg_result_free(r);
    }
    ids->count = kept;
    return OK;
}

static enum status read_holds(struct pg *pg, const char *tenant, struct balance_state *state,
                              struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(pg,
                              "SELECT source, request_id, hold_tokens, hold_nano FROM open_holds"
                              " WHERE tenant_id = $1::uuid AND prepaid AND hold_nano > 0",
                              1, (const char *const[]){tenant}, &r, err);
    if (st != OK)
        return st;
    size_t count = (size_t)pg_rows(r);
    struct balance_hold *holds = calloc(count + 1, sizeof *holds);
    for (size_t i = 0; holds && i < count; i++) {
        int row = (int)i;
        pg_uuid(r, row, 0, &holds[i].gateway_id);
        pg_uuid(r, row, 1, &holds[i].request_id);
        holds[i].tokens = pg_int(r, row, 2);
        holds[i].hold_nano = pg_int(r, row, 3);
    }
    pg_result_free(r);
    if (!holds)
        return error_set(err, NOMEM, "out of memory for the balances");
    state->holds = holds;
    state->hold_count = count;
    return OK;
}

/* The ledger of the tenant, locked against credits until the transaction ends; the credits in it
 * count as passed on. */
static enum status read_ledger(struct pg *pg, const char *tenant, struct balance_state *state,
                               struct error *err)
{
    const char *const params[] = {tenant};
    struct pg_result *r;
    enum status st = pg_query(pg, "SELECT tg_ledger_lock($1::uuid)", 1, params, NULL, err);
    if (st == OK)
        st = pg_query(pg,
                      "SELECT greatest(least(floor(available_pico / 1000), 9223372036854775807),"
                      " -9223372036854775807)::bigint, (SELECT coalesce(max(id), 0) FROM"
                      " balance_ops WHERE tenant_id = $1::uuid) FROM tenant_balances"
                      " WHERE tenant_id = $1::uuid",
                      1, params, &r, err);
    if (st != OK)
        return st;
    state->nano = pg_int(r, 0, 0);
    state->last_credit = pg_int(r, 0, 1);
    pg_result_free(r);
    return pg_query(pg,
                    "UPDATE balance_ops SET applied_at = now() WHERE tenant_id = $1::uuid"
                    " AND applied_at IS NULL",
                    1, params, NULL, err);
}

static enum status set_one(struct balances *b, struct pg *pg, const struct uuid *tenant,
                           struct error *err)
{
    struct balance_state state = {.tenant = *tenant};
    struct ids ids = {0};
    char id[UUID_TEXT_SIZE];
    bool set = false;
    uuid_format(tenant, id);
    enum status st = balance_settled_meanwhile(b->redis, tenant, add_id, &ids, err);
    if (st == OK && ids.failed)
        st = error_set(err, NOMEM, "out of memory for the balances");
    if (st == OK)
        st = keep_events(pg, &ids, err);
    if (st == OK)
        st = read_ledger(pg, id, &state, err);
    if (st == OK)
        st = read_holds(pg, id, &state, err);
    if (st == OK) {
        state.in_ledger = ids.items;
        state.in_ledger_count = ids.count;
        st = balance_set(b->redis, &state, &set, err);
    }
    if (st == OK && set)
        b->status.rebuilt_total++;
    free((void *)state.holds);
    free(ids.items);
    return st;
}

/* A commit that fails after Redis was set is harmless: Redis knows by the number of the last
 * credit which it has. */
static enum status rebuild(struct balances *b, struct pg *pg, const struct uuid *tenant,
                           struct error *err)
{
    enum status st = pg_begin(pg, err);
    if (st != OK)
        return st;
    st = set_one(b, pg, tenant, err);
    if (st == OK)
        return pg_commit(pg, err);
    pg_rollback(pg);
    return st;
}

static bool seen_before(const struct balances *b, const struct uuid *tenant)
{
    for (int i = 0; i < b->seen_count; i++)
        if (uuid_equal(&b->seen[i], tenant))
            return true;
    return false;
}

/* What was settled in Redis before a balance went missing stands in a journal by then. So only
 * what was shipped after it was found missing is the whole truth. */
static enum status rebuild_missing(struct balances *b, struct pg *pg, struct tenants *t,
                                   bool *again, struct error *err)
{
    bool swept = false;
    for (int i = 0; i < t->count; i++) {
        if (!t->missing[i] || !seen_before(b, &t->ids[i]))
            continue;
        enum status st = OK;
        if (!swept)
            st = balances_sweep(&(struct sweep){b->redis, pg, false, &b->status}, err);
        swept = true;
        if (st == OK)
            st = rebuild(b, pg, &t->ids[i], err);
        if (st != OK)
            return st;
        t->missing[i] = false;
    }
    struct uuid *seen = realloc(b->seen, ((size_t)t->count + 1) * sizeof *seen);
    if (!seen)
        return error_set(err, NOMEM, "out of memory for the balances");
    b->seen = seen;
    b->seen_count = 0;
    for (int i = 0; i < t->count; i++)
        if (t->missing[i])
            b->seen[b->seen_count++] = t->ids[i];
    *again = b->seen_count > 0;
    return OK;
}

/* --- credits --- */

static enum status mark_applied(struct pg *pg, const char *op, struct error *err)
{
    return pg_query(pg, "UPDATE balance_ops SET applied_at = now() WHERE id = $1::bigint", 1,
                    (const char *const[]){op}, NULL, err);
}

static enum status apply_credits(struct balances *b, struct pg *pg, struct error *err)
{
    struct pg_result *r;
    char most[16];
    snprintf(most, sizeof most, "%d", CREDITS_MAX);
    /* An order of ids within a tenant: credits of one are committed in it. */
    enum status st = pg_query(
        pg,
        "SELECT o.id, o.tenant_id, o.delta_nano, t.billing_mode = 'prepaid' FROM balance_ops o"
        " JOIN tenants t ON t.id = o.tenant_id WHERE o.applied_at IS NULL"
        " ORDER BY o.tenant_id, o.id LIMIT $1::int",
        1, (const char *const[]){most}, &r, err);
    if (st != OK)
        return st;
    for (int i = 0; st == OK && i < pg_rows(r); i++) {
        struct balance_credit credit = {.number = pg_int(r, i, 0), .delta_nano = pg_int(r, i, 2)};
        bool applied = true; /* one that is not prepaid has no balance in Redis */
        pg_uuid(r, i, 1, &credit.tenant);
        if (pg_bool(r, i, 3))
            st = balance_apply(b->redis, &credit, &applied, err);
        if (st == OK && applied) {
            st = mark_applied(pg, pg_text(r, i, 0), err);
            b->status.credits_total++;
        }
    }
    pg_result_free(r);
    return st;
}

static enum status check_server(struct balances *b, const struct tenants *t, struct error *err)
{
    bool kept = false;
    enum status st = balance_keep(b->redis, &b->leader, &kept, err);
    if (st != OK || kept)
        return st;
    st = balance_drop(b->redis, t->ids, t->count, err);
    return st == OK ? balance_take(b->redis, err) : st;
}

static enum status round_of(struct balances *b, struct pg *pg, struct tenants *t, bool *again,
                            struct error *err)
{
    enum status st = check_server(b, t, err);
    if (st == OK)
        st = balance_missing(b->redis, t->ids, t->count, t->missing, err);
    if (st == OK && b->shipped)
        st = rebuild_missing(b, pg, t, again, err);
    b->status.missing = 0;
    for (int i = 0; i < t->count; i++)
        b->status.missing += t->missing[i];
    if (st == OK)
        st = apply_credits(b, pg, err);
    if (st == OK && clock_mono_ms() - b->swept_at_ms >= SWEEP_MS) {
        st = balances_sweep(&(struct sweep){b->redis, pg, b->shipped, &b->status}, err);
        b->swept_at_ms = clock_mono_ms();
    }
    return st;
}

enum status balances_round(struct balances *b, struct pg *pg, bool shipped, bool *again,
                           struct error *err)
{
    struct tenants t = {0};
    *again = false;
    b->shipped = shipped;
    enum status st = read_tenants(pg, &t, err);
    if (st != OK)
        return st;
    st = round_of(b, pg, &t, again, err);
    tenants_done(&t);
    return st;
}
