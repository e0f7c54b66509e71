#include "billing/ledger.h"

#include <inttypes.h>

static money_pico pico_at(const struct pg_result *r, int row, int column)
{
    money_pico value = 0;
    const char *text = pg_text(r, row, column);
    if (text)
        money_parse_pico(text, &value);
    return value;
}

static enum status check_tenant(struct pg *pg, const char *tenant, struct error *err)
{
    struct pg_result *r;
    enum status st = pg_query(pg, "SELECT FROM tenants WHERE id = $1::uuid", 1,
                              (const char *const[]){tenant}, &r, err);
    if (st != OK)
        return st;
    bool found = pg_rows(r) > 0;
    pg_result_free(r);
    return found ? OK : error_set(err, NOT_FOUND, "no tenant %s", tenant);
}

enum status ledger_credit(struct pg *pg, const struct uuid *tenant_id, enum credit_kind kind,
                          money_pico amount, const char *reference, int64_t *transaction_id,
                          struct error *err)
{
    char tenant[UUID_TEXT_SIZE], pico[MONEY_TEXT_SIZE];
    if (amount <= 0 || amount > (money_pico)INT64_MAX * 1000)
        return error_set(err, INVALID, "a credit is more than 0 and at most 9,223,372,036");
    uuid_format(tenant_id, tenant);
    enum status st = check_tenant(pg, tenant, err);
    if (st != OK)
        return st;
    money_format_pico(amount, pico);
    struct pg_result *r;
    st = pg_query(
        pg, "SELECT tg_post_credit($1::uuid, $2, $3::numeric, $4)", 4,
        (const char *const[]){tenant, kind == CREDIT_PAID ? "paid" : "granted", pico, reference},
        &r, err);
    if (st == CONFLICT)
        return error_set(err, CONFLICT, "a credit with the reference %s was given before",
                         reference);
    if (st != OK)
        return st;
    *transaction_id = pg_int(r, 0, 0);
    pg_result_free(r);
    return OK;
}

enum status ledger_credit_applied(struct pg *pg, int64_t transaction_id, bool *applied,
                                  struct error *err)
{
    char id[24];
    snprintf(id, sizeof id, "%" PRId64, transaction_id);
    struct pg_result *r;
    enum status st = pg_query(pg,
                              "SELECT bool_and(applied_at IS NOT NULL) FROM balance_ops"
                              " WHERE ledger_transaction_id = $1::bigint",
                              1, (const char *const[]){id}, &r, err);
    if (st != OK)
        return st;
    *applied = pg_bool(r, 0, 0);
    pg_result_free(r);
    return OK;
}

enum status ledger_balance(struct pg *pg, const struct uuid *tenant_id, struct tenant_balance *out,
                           struct error *err)
{
    char tenant[UUID_TEXT_SIZE];
    uuid_format(tenant_id, tenant);
    struct pg_result *r;
    enum status st = pg_query(
        pg,
        "SELECT b.currency, b.granted_pico, b.paid_pico, b.receivable_pico, b.available_pico,"
        " count(h.request_id), coalesce(sum(h.hold_nano), 0) * 1000"
        " FROM tenant_balances b LEFT JOIN open_holds h ON h.tenant_id = b.tenant_id"
        " WHERE b.tenant_id = $1::uuid GROUP BY 1, 2, 3, 4, 5",
        1, (const char *const[]){tenant}, &r, err);
    if (st != OK)
        return st;
    if (pg_rows(r) == 0) {
        pg_result_free(r);
        return error_set(err, NOT_FOUND, "no tenant %s", tenant);
    }
    *out = (struct tenant_balance){
        .granted = pico_at(r, 0, 1),
        .paid = pico_at(r, 0, 2),
        .receivable = pico_at(r, 0, 3),
        .available = pico_at(r, 0, 4),
        .holds = pg_int(r, 0, 5),
        .held = pico_at(r, 0, 6),
    };
    snprintf(out->currency, sizeof out->currency, "%s", pg_text(r, 0, 0));
    pg_result_free(r);
    return OK;
}

enum status ledger_history(struct pg *pg, const struct uuid *tenant_id, int limit, ledger_fn *fn,
                           void *arg, struct error *err)
{
    char tenant[UUID_TEXT_SIZE], count[16];
    uuid_format(tenant_id, tenant);
    snprintf(count, sizeof count, "%d", limit);
    struct pg_result *r;
    enum status st = pg_query(
        pg,
        "SELECT t.id, t.kind, a.kind, t.reference, coalesce(p.name, ''), e.amount_pico,"
        " (extract(epoch FROM t.created_at) * 1000)::bigint FROM"
        " (SELECT * FROM ledger_transactions WHERE tenant_id = $1::uuid ORDER BY id DESC"
        "  LIMIT $2::int) t JOIN ledger_entries e ON e.transaction_id = t.id"
        " JOIN ledger_accounts a ON a.id = e.account_id LEFT JOIN projects p ON p.id = t.project_id"
        " ORDER BY t.id DESC, e.id",
        2, (const char *const[]){tenant, count}, &r, err);
    if (st != OK)
        return st;
    for (int i = 0; i < pg_rows(r); i++) {
        struct ledger_line line = {
            .transaction_id = pg_int(r, i, 0),
            .kind = pg_text(r, i, 1),
            .account = pg_text(r, i, 2),
            .reference = pg_text(r, i, 3),
            .project = pg_text(r, i, 4),
            .amount = pico_at(r, i, 5),
            .at_wall_ms = pg_int(r, i, 6),
        };
        fn(&line, arg);
    }
    pg_result_free(r);
    return OK;
}
