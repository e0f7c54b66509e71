/*
 * The command line: groups of commands in tables, their options, connections made when a command
 * first asks for one, and printing. A command returns a status: OK is exit code 0; others print
 * the error and exit 1, or 2 when cli_bad_call said that the call itself is wrong.
 */
#ifndef ADMIN_CLI_CLI_H
#define ADMIN_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "admin/report.h"
#include "base/error.h"
#include "base/pg.h"
#include "base/redis.h"

enum { CLI_OPTIONS_MAX = 24, CLI_ARGUMENTS_MAX = 16 };

struct cli;
typedef enum status cli_fn(struct cli *c);

struct cli_command {
    const char *name;      /* NULL: the group is the command */
    const char *arguments; /* for help: "NAME --tenant T [--models A,B]" */
    const char *summary;   /* one line */
    const char *example;   /* whole commands, a line each */
    /* "tenant!" must be given, "from=" may be, "no-wait" takes no value; NULL ends the list. */
    const char *options[CLI_OPTIONS_MAX];
    int least, most; /* arguments that are no options */
    cli_fn *run;
};

struct cli_group {
    const char *name;
    const char *summary;
    const struct cli_command *commands;
    int count;
};

struct cli_settings {
    char *database_url, *redis_url, *redis_password, *state_dir;
    int log_level;
};

struct cli {
    const char *config; /* NULL: defaults */
    bool json, help;
    const struct cli_group *group;
    const struct cli_command *command;
    const char *arguments[CLI_ARGUMENTS_MAX];
    int argument_count;
    const char *values[CLI_OPTIONS_MAX]; /* by the place in command->options; "" for a flag */
    struct cli_settings settings;
    struct pg *pg;
    struct redis_sync *redis;
    bool bad_call;
    struct error err;
};

/* All groups; cli/main.c lists them. */
extern const struct cli_group *const cli_groups[]; /* NULL-terminated */

/* Runs argv; returns the exit code. */
int cli_main(int argc, char **argv);

const char *cli_value(const struct cli *c, const char *option); /* NULL: not given */
bool cli_flag(const struct cli *c, const char *option);
/* A whole number in [least, most]; not given: *out is untouched. */
enum status cli_value_int(struct cli *c, const char *option, int64_t least, int64_t most,
                          int64_t *out);
enum status cli_bad_call(struct cli *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Connected on first use; the error says which server and how to mend it. */
enum status cli_need_pg(struct cli *c);
enum status cli_need_redis(struct cli *c);
/* The file with the settings; an error when none was named. */
enum status cli_need_config(struct cli *c);

/* Prints as --json or as text. single: fields of one row; else a table. Frees the report. */
enum status cli_print(struct cli *c, struct report *r, bool single);
/* A line for people; nothing with --json. */
void cli_say(const struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "2026-11-01", "2026-11-01T10:20:30Z", "now", "30d" and "12h" (from now on; with sign < 0 they
 * reach back), to an ISO 8601 time in UTC. */
enum { CLI_TIME_SIZE = 32 };
enum status cli_value_time(struct cli *c, const char *option, int sign, char out[CLI_TIME_SIZE]);
/* The same as milliseconds since 1970. */
enum status cli_value_wall_ms(struct cli *c, const char *option, int sign, int64_t *out);

#endif
