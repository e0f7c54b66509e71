#include "admin/cli/doctor.h"

#include "admin/cli/groups.h"
#include "base/config_peek.h"

void doctor_find(struct doctor *d, enum finding f, const char *check, const char *detail,
                 const char *mend)
{
    static const char *const names[] = {"ok", "warning", "failed"};
    report_row(d->report);
    report_text(d->report, "result", names[f]);
    report_text(d->report, "check", check);
    report_text(d->report, "detail", detail);
    report_text(d->report, "mend", mend);
    d->warnings += f == FINDING_WARN;
    d->failures += f == FINDING_FAIL;
    if (d->c->json)
        return;
    /* Shown at once: a check that waits for a timeout must not hide those before it. */
    printf("%-7s  %-22s  %s\n", names[f], check, detail);
    if (mend)
        printf("%-7s  %-22s  -> %s\n", "", "", mend);
    fflush(stdout);
}

bool doctor_setting(struct doctor *d, const char *section, const char *name, char *out, size_t size)
{
    return config_peek(d->c->config, section, name, out, size, NULL) == OK;
}

static enum status run(struct cli *c)
{
    enum status st = cli_need_config(c);
    if (st != OK)
        return st;
    struct doctor d = {.c = c, .report = report_new()};
    if (!d.report)
        return error_set(&c->err, NOMEM, "out of memory");
    doctor_check_programs(&d);
    doctor_check_state(&d);
    doctor_check_postgres(&d);
    doctor_check_redis(&d);
    doctor_check_certificates(&d);
    doctor_check_model(&d);
    doctor_check_workers(&d);
    doctor_check_daemons(&d);
    if (c->json)
        st = cli_print(c, d.report, false);
    else
        report_free(d.report);
    if (st != OK)
        return st;
    if (d.failures)
        return error_set(&c->err, UNAVAILABLE, "%d check%s failed, %d warning%s", d.failures,
                         d.failures == 1 ? "" : "s", d.warnings, d.warnings == 1 ? "" : "s");
    cli_say(c, "all is well%s", d.warnings ? ", but see the warnings" : "");
    return OK;
}

static const struct cli_command commands[] = {{
    .arguments = "--config FILE",
    .summary = "Checks every dependency of the stack: programs, state folder, PostgreSQL, Redis,\n"
               "certificates, model, workers and daemons. Says what is wrong and how to mend it.",
    .example = "tollgate --config tollgate.conf doctor\n"
               "tollgate --config tollgate.conf doctor --json",
    .run = run,
}};

const struct cli_group cli_doctor = {
    .name = "doctor",
    .summary = "check every dependency, say what is wrong and how to mend it",
    .commands = commands,
    .count = 1,
};
