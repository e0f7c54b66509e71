/* The groups of commands, one file each. */
#ifndef ADMIN_CLI_GROUPS_H
#define ADMIN_CLI_GROUPS_H

#include "admin/cli/cli.h"

extern const struct cli_group cli_up, cli_migrate, cli_doctor, cli_reconcile;
extern const struct cli_group cli_group_tenant, cli_group_project, cli_group_key;
extern const struct cli_group cli_group_admin_key, cli_group_limit, cli_group_price;
extern const struct cli_group cli_group_credit, cli_group_usage, cli_group_invoice;

#endif
