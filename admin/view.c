#include "admin/view.h"

#include <assert.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/money.h"

enum { NAME_MAX_BYTES = 48, LIST_MAX = 1 << 16 };

struct column {
    char name[NAME_MAX_BYTES], kind[8];
    bool hidden;
};

/* The next column of a list of them; false: no more. */
static bool next_column(const char **at, struct column *out)
{
    int used = 0;
    if (sscanf(*at, " %47s %7s%n", out->name, out->kind, &used) != 2)
        return false;
    *at += used;
    out->hidden = out->name[0] == '-';
    if (out->hidden)
        memmove(out->name, out->name + 1, strlen(out->name));
    return true;
}

static void put_money(struct report *r, const char *name, const char *pico, bool hidden)
{
    char text[MONEY_TEXT_SIZE];
    money_pico value;
    bool good = pico && money_parse_pico(pico, &value);
    if (good)
        money_format(value, text);
    report_amount(r, name, good ? text : pico);
    if (hidden)
        report_hide(r);
    char full[NAME_MAX_BYTES + 8];
    snprintf(full, sizeof full, "%s_pico", name);
    report_text(r, full, pico);
    report_hide_all(r);
}

/* ["a", "b"] is shown as "a, b". */
static void put_list(struct report *r, const char *name, const char *json)
{
    struct json *list = NULL;
    struct buf shown;
    buf_init(&shown, LIST_MAX);
    if (json && json_parse(json, strlen(json), NULL, &list, NULL) == OK)
        for (const struct json *v = json_first(list); v; v = json_next(v))
            if (buf_addf(&shown, "%s%s", buf_len(&shown) ? ", " : "", json_string(v)) != OK)
                break;
    const char *text = buf_cstr(&shown);
    report_json(r, name, json ? json : "null", text && *text ? text : "-");
    json_free(list);
    buf_done(&shown);
}

static void put_time(struct report *r, const char *name, const char *ms)
{
    char text[32];
    if (ms)
        clock_format_utc(strtoll(ms, NULL, 10), text, sizeof text);
    report_text(r, name, ms ? text : NULL);
}

static void put_value(struct report *r, const struct column *c, const char *value)
{
    if (strcmp(c->kind, "money") == 0) {
        put_money(r, c->name, value, c->hidden);
        return;
    }
    if (strcmp(c->kind, "int") == 0 && value)
        report_int(r, c->name, strtoll(value, NULL, 10));
    else if (strcmp(c->kind, "bool") == 0 && value)
        report_bool(r, c->name, value[0] == 't');
    else if (strcmp(c->kind, "time") == 0)
        put_time(r, c->name, value);
    else if (strcmp(c->kind, "list") == 0)
        put_list(r, c->name, value);
    else if (strcmp(c->kind, "json") == 0)
        report_json(r, c->name, value ? value : "null", value ? value : "-");
    else
        report_text(r, c->name, value);
    if (c->hidden)
        report_hide(r);
}

enum status view_read(struct pg *pg, const struct view *v, int count, const char *const *params,
                      struct report *r, struct error *err)
{
    struct pg_result *rows = NULL;
    enum status st = pg_query(pg, v->sql, count, params, &rows, err);
    if (st != OK)
        return st;
    for (int row = 0; row < pg_rows(rows); row++) {
        const char *at = v->columns;
        struct column c;
        report_row(r);
        for (int i = 0; next_column(&at, &c); i++)
            put_value(r, &c, pg_text(rows, row, i));
    }
    pg_result_free(rows);
    return OK;
}

/* One id, or NOT_FOUND with err untouched. */
static enum status one_id(struct pg *pg, const char *sql, int count, const char *const *params,
                          struct uuid *out, struct error *err)
{
    struct pg_result *rows = NULL;
    enum status st = pg_query(pg, sql, count, params, &rows, err);
    if (st != OK)
        return st;
    st = pg_rows(rows) == 1 && pg_uuid(rows, 0, 0, out) ? OK : NOT_FOUND;
    pg_result_free(rows);
    return st;
}

enum status find_tenant(struct pg *pg, const char *name, struct uuid *out, struct error *err)
{
    enum status st =
        one_id(pg, "select id from tenants where name = $1 or id::text = $1", 1, &name, out, err);
    if (st == NOT_FOUND)
        error_set(err, st, "there is no tenant \"%.64s\" (tollgate tenant list)", name);
    return st;
}

enum status find_project(struct pg *pg, const char *tenant, const char *name, struct uuid *out,
                         struct error *err)
{
    struct uuid id;
    char text[UUID_TEXT_SIZE];
    enum status st = find_tenant(pg, tenant, &id, err);
    if (st != OK)
        return st;
    uuid_format(&id, text);
    st = one_id(pg, "select id from projects where tenant_id = $1 and (name = $2 or id::text = $2)",
                2, (const char *const[]){text, name}, out, err);
    if (st == NOT_FOUND)
        error_set(err, st, "tenant %.64s has no project \"%.64s\" (tollgate project list)", tenant,
                  name);
    return st;
}

enum status find_key(struct pg *pg, const struct uuid *project, const char *name, struct uuid *out,
                     struct error *err)
{
    char text[UUID_TEXT_SIZE];
    uuid_format(project, text);
    enum status st = one_id(pg,
                            "select id from api_keys where project_id = $1 and revoked_at is null"
                            " and (name = $2 or id::text = $2 or prefix = $2)",
                            2, (const char *const[]){text, name}, out, err);
    if (st == NOT_FOUND)
        error_set(err, st, "the project has no live key \"%.64s\" (tollgate key list)", name);
    return st;
}
