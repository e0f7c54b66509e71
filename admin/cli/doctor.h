/* What the checks of `tollgate doctor` share; nobody else includes this. */
#ifndef ADMIN_CLI_DOCTOR_H
#define ADMIN_CLI_DOCTOR_H

#include "admin/cli/cli.h"

enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct doctor {
    struct cli *c;
    struct report *report;
    int warnings, failures;
};

/* One line of the answer. mend: what to do; NULL when all is well. */
void doctor_find(struct doctor *d, enum finding f, const char *check, const char *detail,
                 const char *mend);
/* The value of a setting of another program; false: not set. */
bool doctor_setting(struct doctor *d, const char *section, const char *name, char *out,
                    size_t size);

void doctor_check_postgres(struct doctor *d);
void doctor_check_redis(struct doctor *d);
void doctor_check_state(struct doctor *d);
void doctor_check_programs(struct doctor *d);
void doctor_check_model(struct doctor *d);
void doctor_check_certificates(struct doctor *d);
void doctor_check_daemons(struct doctor *d);
void doctor_check_workers(struct doctor *d);

#endif
