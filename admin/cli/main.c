#include "admin/cli/groups.h"

const struct cli_group *const cli_groups[] = {
    &cli_up,
    &cli_migrate,
    &cli_doctor,
    &cli_group_tenant,
    &cli_group_project,
    &cli_group_key,
    &cli_group_admin_key,
    &cli_group_limit,
    &cli_group_price,
    &cli_group_credit,
    &cli_group_usage,
    &cli_group_invoice,
    &cli_reconcile,
    NULL,
};

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
