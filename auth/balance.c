#include "auth/balance.h"

#include <assert.h>
#include <inttypes.h>

#include "auth/embed.h"
#include "base/buf.h"

enum { NAME_SIZE = 7 + UUID_TEXT_SIZE, NUMBER_SIZE = 24, ARGS_MAX = 1 << 20 };

struct balance {
    struct redis_sync *redis;
    struct redis_script *set, *apply, *settle;
    char mark[160]; /* what balance_keep wrote */
};

static const char *script_text(const char *name)
{
    for (const struct embedded_file *f = embedded_scripts; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f->text;
    abort(); /* a program without its scripts was not built by our CMakeLists.txt */
}

struct balance *balance_new(struct redis_sync *redis, struct error *err)
{
    struct balance *b = calloc(1, sizeof *b);
    if (b) {
        b->redis = redis;
        b->set = redis_script_new(script_text("balance_set.lua"));
        b->apply = redis_script_new(script_text("balance_apply.lua"));
        b->settle = redis_script_new(script_text("settle.lua"));
    }
    if (!b || !b->set || !b->apply || !b->settle) {
        error_set(err, NOMEM, "out of memory for the balances");
        balance_free(b);
        return NULL;
    }
    return b;
}

void balance_free(struct balance *b)
{
    if (!b)
        return;
    redis_script_free(b->set);
    redis_script_free(b->apply);
    redis_script_free(b->settle);
    free(b);
}

static void name_of(char out[NAME_SIZE], const char *prefix, const struct uuid *id)
{
    snprintf(out, NAME_SIZE, "%s", prefix);
    uuid_format(id, out + strlen(prefix));
}

/* NULL stands for a lost connection. */
static enum status judge(const struct redis_reply *reply, struct error *err)
{
    if (!reply)
        return UNAVAILABLE;
    if (reply->type != REDIS_ERROR)
        return OK;
    if (strncmp(reply->text, "STALE", 5) == 0)
        return error_set(err, CLOSED, "Redis: %s", reply->text);
    return error_set(err, UNAVAILABLE, "Redis: %s", reply->text);
}

static enum status command(struct balance *b, int argc, const char *const *argv,
                           const struct redis_reply **reply, struct error *err)
{
    *reply = redis_sync_command(b->redis, argc, argv, NULL, err);
    return judge(*reply, err);
}

/* The id of this run of the server: another one means that its memory is not what it was. */
static enum status read_run_id(struct balance *b, char out[64], struct error *err)
{
    const struct redis_reply *reply;
    enum status st = command(b, 2, (const char *const[]){"INFO", "server"}, &reply, err);
    if (st != OK)
        return st;
    const char *at = reply->text ? strstr(reply->text, "run_id:") : NULL;
    if (!at)
        return error_set(err, UNAVAILABLE, "Redis does not tell its run_id");
    at += strlen("run_id:");
    snprintf(out, 64, "%.*s", (int)strcspn(at, "\r\n"), at);
    return OK;
}

enum status balance_take(struct balance *b, struct error *err)
{
    const struct redis_reply *reply;
    return command(b, 3, (const char *const[]){"SET", "tg:mark", b->mark}, &reply, err);
}

enum status balance_keep(struct balance *b, const struct uuid *leader, bool *kept,
                         struct error *err)
{
    char run_id[64], id[UUID_TEXT_SIZE];
    const struct redis_reply *reply;
    enum status st = read_run_id(b, run_id, err);
    if (st == OK)
        st = command(b, 2, (const char *const[]){"GET", "tg:mark"}, &reply, err);
    if (st != OK)
        return st;
    uuid_format(leader, id);
    snprintf(b->mark, sizeof b->mark, "%s %s", run_id, id);
    bool same = reply->type == REDIS_STRING && strncmp(reply->text, run_id, strlen(run_id)) == 0;
    if (same && strcmp(reply->text, b->mark) != 0)
        st = balance_take(b, err);
    if (st == OK)
        *kept = same;
    return st;
}

/* One command with a balance's name for each tenant. */
static const struct redis_reply *each_balance(struct balance *b, const char *verb,
                                              const struct uuid *tenants, int count,
                                              struct error *err)
{
    char(*names)[NAME_SIZE] = calloc((size_t)count + 1, sizeof *names);
    const char **argv = calloc((size_t)count + 1, sizeof *argv);
    const struct redis_reply *reply = NULL;
    if (!names || !argv) {
        error_set(err, NOMEM, "out of memory for the balances");
    } else {
        argv[0] = verb;
        for (int i = 0; i < count; i++) {
            name_of(names[i], "tg:b:", &tenants[i]);
            argv[i + 1] = names[i];
        }
        reply = redis_sync_command(b->redis, count + 1, argv, NULL, err);
    }
    free(argv);
    free(names);
    return reply;
}

enum status balance_missing(struct balance *b, const struct uuid *tenants, int count, bool *missing,
                            struct error *err)
{
    if (count == 0)
        return OK;
    const struct redis_reply *reply = each_balance(b, "MGET", tenants, count, err);
    enum status st = judge(reply, err);
    if (st != OK)
        return st;
    if (reply->type != REDIS_ARRAY || reply->count != (size_t)count)
        return error_set(err, UNAVAILABLE, "Redis: an unexpected answer to MGET");
    for (int i = 0; i < count; i++)
        missing[i] = reply->items[i].type != REDIS_STRING;
    return OK;
}

enum status balance_drop(struct balance *b, const struct uuid *tenants, int count,
                         struct error *err)
{
    return count ? judge(each_balance(b, "DEL", tenants, count, err), err) : OK;
}

static bool id_of(const struct redis_reply *item, struct uuid *out)
{
    if (item->type != REDIS_STRING || item->len != sizeof out->bytes)
        return false;
    memcpy(out->bytes, item->text, sizeof out->bytes);
    return true;
}

enum status balance_settled_meanwhile(struct balance *b, const struct uuid *tenant,
                                      balance_id_fn *fn, void *arg, struct error *err)
{
    static const struct uuid no_gateway;
    char name[NAME_SIZE];
    const struct redis_reply *reply;
    name_of(name, "tg:d:", tenant);
    enum status st = command(b, 2, (const char *const[]){"HKEYS", name}, &reply, err);
    if (st != OK)
        return st;
    for (size_t i = 0; i < reply->count; i++) {
        struct uuid id;
        if (id_of(&reply->items[i], &id))
            fn(&no_gateway, &id, arg);
    }
    return OK;
}

/* --- the hashes of holds, one for each gateway --- */

struct gateways {
    struct uuid *ids;
    size_t count, size;
};

static enum status add_gateway(struct gateways *g, const struct redis_reply *item,
                               struct error *err)
{
    const size_t prefix = strlen("tg:h:");
    struct uuid id;
    if (item->type != REDIS_STRING || item->len <= prefix ||
        !uuid_parse(item->text + prefix, item->len - prefix, &id))
        return OK;
    for (size_t i = 0; i < g->count; i++)
        if (uuid_equal(&g->ids[i], &id))
            return OK; /* SCAN may tell a key twice */
    if (g->count == g->size) {
        size_t more = g->size ? 2 * g->size : 16;
        struct uuid *ids = realloc(g->ids, more * sizeof *ids);
        if (!ids)
            return error_set(err, NOMEM, "out of memory for the balances");
        g->ids = ids;
        g->size = more;
    }
    g->ids[g->count++] = id;
    return OK;
}

/* *out is the caller's to free. */
static enum status find_gateways(struct balance *b, struct gateways *out, struct error *err)
{
    struct gateways g = {0};
    char cursor[NUMBER_SIZE] = "0";
    enum status st;
    do {
        const struct redis_reply *reply;
        st =
            command(b, 6, (const char *const[]){"SCAN", cursor, "MATCH", "tg:h:*", "COUNT", "1000"},
                    &reply, err);
        if (st == OK && (reply->type != REDIS_ARRAY || reply->count != 2))
            st = error_set(err, UNAVAILABLE, "Redis: an unexpected answer to SCAN");
        if (st != OK)
            break;
        snprintf(cursor, sizeof cursor, "%s", reply->items[0].text);
        for (size_t i = 0; st == OK && i < reply->items[1].count; i++)
            st = add_gateway(&g, &reply->items[1].items[i], err);
    } while (st == OK && strcmp(cursor, "0") != 0);
    if (st == OK)
        *out = g;
    else
        free(g.ids);
    return st;
}

enum status balance_each_hold(struct balance *b, balance_id_fn *fn, void *arg, struct error *err)
{
    struct gateways g;
    enum status st = find_gateways(b, &g, err);
    if (st != OK)
        return st;
    for (size_t i = 0; st == OK && i < g.count; i++) {
        char name[NAME_SIZE];
        const struct redis_reply *reply;
        name_of(name, "tg:h:", &g.ids[i]);
        st = command(b, 2, (const char *const[]){"HKEYS", name}, &reply, err);
        for (size_t k = 0; st == OK && k < reply->count; k++) {
            struct uuid id;
            if (id_of(&reply->items[k], &id))
                fn(&g.ids[i], &id, arg);
        }
    }
    free(g.ids);
    return st;
}

/* --- setting a balance --- */

/* Arguments of one call; text is kept until it is made. */
struct call {
    const char **argv;
    size_t *lens;
    int argc, max;
    char (*texts)[NAME_SIZE];
};

static enum status call_init(struct call *c, size_t max, struct error *err)
{
    *c = (struct call){.max = (int)max};
    if (max <= ARGS_MAX) {
        c->argv = calloc(max, sizeof *c->argv);
        c->lens = calloc(max, sizeof *c->lens);
        c->texts = calloc(max, sizeof *c->texts);
    }
    return c->argv && c->lens && c->texts ? OK
                                          : error_set(err, NOMEM, "out of memory for a balance");
}

static void call_done(struct call *c)
{
    free(c->argv);
    free(c->lens);
    free(c->texts);
}

static void add_bytes(struct call *c, const void *data, size_t len)
{
    assert(c->argc < c->max);
    c->argv[c->argc] = data;
    c->lens[c->argc++] = len;
}

static void add_name(struct call *c, const char *prefix, const struct uuid *id)
{
    char *text = c->texts[c->argc];
    name_of(text, prefix, id);
    add_bytes(c, text, strlen(text));
}

static void add_number(struct call *c, int64_t value)
{
    char *text = c->texts[c->argc];
    snprintf(text, NAME_SIZE, "%" PRId64, value);
    add_bytes(c, text, strlen(text));
}

static int place_of(const struct gateways *g, const struct uuid *id)
{
    for (size_t i = 0; i < g->count; i++)
        if (uuid_equal(&g->ids[i], id))
            return (int)i;
    return -1;
}

/* Gateways of open requests that have no holds in Redis are added to those that have. */
static enum status add_lost_gateways(struct gateways *g, const struct balance_state *s,
                                     struct error *err)
{
    for (size_t i = 0; i < s->hold_count; i++) {
        if (place_of(g, &s->holds[i].gateway_id) >= 0)
            continue;
        struct uuid *ids = realloc(g->ids, (g->count + 1) * sizeof *ids);
        if (!ids)
            return error_set(err, NOMEM, "out of memory for a balance");
        g->ids = ids;
        g->ids[g->count++] = s->holds[i].gateway_id;
        g->size = g->count;
    }
    return OK;
}

static const struct redis_reply *call_set(struct balance *b, const struct balance_state *s,
                                          const struct gateways *g, struct call *c,
                                          struct error *err)
{
    enum { FIXED_KEYS = 4 };
    add_name(c, "tg:b:", &s->tenant);
    add_name(c, "tg:d:", &s->tenant);
    add_name(c, "tg:o:", &s->tenant);
    add_bytes(c, "tg:mark", strlen("tg:mark"));
    for (size_t i = 0; i < g->count; i++)
        add_name(c, "tg:h:", &g->ids[i]);
    add_bytes(c, b->mark, strlen(b->mark));
    add_number(c, s->nano);
    add_number(c, s->last_credit);
    add_bytes(c, s->in_ledger_count ? (const void *)s->in_ledger : "",
              s->in_ledger_count * sizeof *s->in_ledger);
    for (size_t i = 0; i < s->hold_count; i++) {
        const struct balance_hold *h = &s->holds[i];
        add_number(c, FIXED_KEYS + 1 + place_of(g, &h->gateway_id));
        add_bytes(c, h->request_id.bytes, sizeof h->request_id.bytes);
        add_number(c, h->tokens);
        add_number(c, h->hold_nano);
    }
    return redis_sync_eval(b->redis, b->set, FIXED_KEYS + (int)g->count, c->argc, c->argv, c->lens,
                           err);
}

enum status balance_set(struct balance *b, const struct balance_state *state, bool *set,
                        struct error *err)
{
    struct gateways g;
    struct call c = {0};
    enum status st = find_gateways(b, &g, err);
    if (st != OK)
        return st;
    st = add_lost_gateways(&g, state, err);
    if (st == OK)
        st = call_init(&c, 8 + g.count + 4 * state->hold_count, err);
    if (st == OK) {
        const struct redis_reply *reply = call_set(b, state, &g, &c, err);
        st = judge(reply, err);
        if (st == OK)
            *set = reply->integer == 1;
    }
    call_done(&c);
    free(g.ids);
    return st;
}

enum status balance_apply(struct balance *b, const struct balance_credit *credit, bool *applied,
                          struct error *err)
{
    char name[NAME_SIZE], last[NAME_SIZE], number[NUMBER_SIZE], delta[NUMBER_SIZE];
    name_of(name, "tg:b:", &credit->tenant);
    name_of(last, "tg:o:", &credit->tenant);
    snprintf(number, sizeof number, "%" PRId64, credit->number);
    snprintf(delta, sizeof delta, "%" PRId64, credit->delta_nano);
    const struct redis_reply *reply = redis_sync_eval(
        b->redis, b->apply, 2, 4, (const char *const[]){name, last, number, delta}, NULL, err);
    enum status st = judge(reply, err);
    if (st == OK)
        *applied = reply->integer == 1;
    return st;
}

enum status balance_settle(struct balance *b, const struct balance_settles *settles,
                           int64_t *claimed, struct error *err)
{
    struct call c;
    assert(settles->count <= BALANCE_SETTLE_MAX);
    if (settles->count == 0)
        return OK;
    enum status st = call_init(&c, 1 + 3 * (size_t)settles->count, err);
    if (st == OK) {
        add_name(&c, "tg:h:", &settles->gateway_id);
        for (int i = 0; i < settles->count; i++) {
            add_bytes(&c, settles->items[i].request_id.bytes,
                      sizeof settles->items[i].request_id.bytes);
            add_number(&c, settles->items[i].tokens);
            add_number(&c, settles->items[i].cost_nano);
        }
        const struct redis_reply *reply =
            redis_sync_eval(b->redis, b->settle, 1, c.argc, c.argv, c.lens, err);
        st = judge(reply, err);
        if (st == OK)
            *claimed += reply->integer;
    }
    call_done(&c);
    return st;
}
