/* What several groups of commands need: names to ids, who is calling, telling the gateways. */
#ifndef ADMIN_CLI_COMMON_H
#define ADMIN_CLI_COMMON_H

#include "admin/cli/cli.h"
#include "auth/manage.h"
#include "base/money.h"

/* --tenant, --project, --key (each must be an option of the command) to ids. Connects. */
enum status cli_tenant(struct cli *c, struct uuid *out);
enum status cli_project(struct cli *c, struct uuid *out);
/* name: of a live key of --tenant, --project. */
enum status cli_key(struct cli *c, const char *name, struct uuid *out);
/* --tenant when it is given: *given tells. */
enum status cli_tenant_if(struct cli *c, struct uuid *out, bool *given);

/* For the audit log; static. */
const struct actor *cli_actor(void);

/* Tells Redis of the keys that a change affects. When Redis is away that is a warning: gateways
 * then hear of it through tollgate-billing. */
void cli_publish(struct cli *c, enum limit_subject subject, const struct uuid *id);

/* Splits "a,b" in a copy that lives until the next call; more than max: a bad call. */
enum status cli_split(struct cli *c, const char *option, const char **items, int max, int *count);

/* --amount, above zero. */
enum status cli_amount(struct cli *c, money_pico *out);
/* Amounts in reports, as NAME and NAME_pico. */
void cli_report_money(struct report *r, const char *name, money_pico value);

/* A new report, or NOMEM with the error set. */
enum status cli_report(struct cli *c, struct report **out);
/* Prints what a view read: st OK, else the report is dropped. */
enum status cli_print_view(struct cli *c, enum status st, struct report *r, bool single);

#endif
