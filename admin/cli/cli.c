#include "admin/cli/cli.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>

#include "base/config.h"

enum { TIMEOUT_MS = 5000, OUTPUT_MAX = 256 << 20, EXIT_REFUSED = 1, EXIT_BAD_CALL = 2 };

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};
static const struct setting settings[] = {
    {.section = "common",
     .name = "database_url",
     .type = SETTING_SECRET,
     .offset = offsetof(struct cli_settings, database_url),
     .default_text = "postgresql:///tollgate",
     .least = 1,
     .most = 1024,
     .help = "PostgreSQL, as libpq takes it"},
    {.section = "common",
     .name = "redis_url",
     .type = SETTING_SECRET,
     .offset = offsetof(struct cli_settings, redis_url),
     .default_text = "redis://127.0.0.1:6379/0",
     .least = 1,
     .most = 1024,
     .help = "Redis: redis://host:port/db or unix:/path"},
    {.section = "common",
     .name = "redis_password",
     .type = SETTING_SECRET,
     .offset = offsetof(struct cli_settings, redis_password),
     .default_text = "",
     .most = 128,
     .help = "empty: none"},
    {.section = "common",
     .name = "state_dir",
     .type = SETTING_STRING,
     .offset = offsetof(struct cli_settings, state_dir),
     .default_text = "/var/lib/tollgate",
     .least = 1,
     .most = 1024,
     .help = "folder for journals, tables and logs"},
    {.section = "common",
     .name = "log_level",
     .type = SETTING_ENUM,
     .offset = offsetof(struct cli_settings, log_level),
     .default_text = "info",
     .names = level_names,
     .help = "least level that is logged"},
};
enum { SETTING_COUNT = sizeof settings / sizeof *settings };

enum status cli_bad_call(struct cli *c, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->bad_call = true;
    return error_set(&c->err, INVALID, "%s", text);
}

/* The place of an option in the command's list, without the mark behind its name; -1: none. */
static int option_at(const struct cli_command *command, const char *name, size_t len)
{
    for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i]; i++) {
        const char *o = command->options[i];
        size_t n = strcspn(o, "!=");
        if (n == len && memcmp(o, name, len) == 0)
            return i;
    }
    return -1;
}

const char *cli_value(const struct cli *c, const char *option)
{
    int i = option_at(c->command, option, strlen(option));
    assert(i >= 0);
    return c->values[i];
}

bool cli_flag(const struct cli *c, const char *option)
{
    return cli_value(c, option) != NULL;
}

enum status cli_value_int(struct cli *c, const char *option, int64_t least, int64_t most,
                          int64_t *out)
{
    const char *text = cli_value(c, option);
    if (!text)
        return OK;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < least || value > most)
        return cli_bad_call(c, "--%s must be a whole number from %lld to %lld", option,
                            (long long)least, (long long)most);
    *out = value;
    return OK;
}

/* -- help ---------------------------------------------------------------------------------- */

static void print_overview(FILE *out)
{
    fputs("tollgate: command line of the Tollgate gateway\n\n"
          "usage: tollgate [--config FILE] [--json] COMMAND ...\n\n",
          out);
    for (int i = 0; cli_groups[i]; i++)
        fprintf(out, "  %-10s  %s\n", cli_groups[i]->name, cli_groups[i]->summary);
    fputs("\n--config FILE  settings (or the variable TOLLGATE_CONFIG)\n"
          "--json         answers as JSON\n"
          "--help         of a command: its options and examples\n"
          "--version\n--settings     what the file may say in [common]\n\n"
          "Exit code: 0 done, 1 refused by the system, 2 bad call.\n\n"
          "examples:\n"
          "  tollgate --config tollgate.conf migrate\n"
          "  tollgate --config tollgate.conf up\n"
          "  tollgate tenant create acme --currency USD --billing prepaid\n"
          "  tollgate key create laptop --tenant acme --project main\n",
          out);
}

static void print_usage(FILE *out, const struct cli_group *g, const struct cli_command *command)
{
    fprintf(out, "usage: tollgate %s%s%s %s\n", g->name, command->name ? " " : "",
            command->name ? command->name : "", command->arguments);
}

static void print_command(FILE *out, const struct cli_group *g, const struct cli_command *command)
{
    print_usage(out, g, command);
    fprintf(out, "\n%s\n\nexamples:\n", command->summary);
    for (const char *line = command->example; *line;) {
        size_t n = strcspn(line, "\n");
        fprintf(out, "  %.*s\n", (int)n, line);
        line += n + (line[n] == '\n');
    }
}

static void print_group(FILE *out, const struct cli_group *g)
{
    if (g->count == 1 && !g->commands[0].name) {
        print_command(out, g, &g->commands[0]);
        return;
    }
    fprintf(out, "tollgate %s: %s\n\n", g->name, g->summary);
    for (int i = 0; i < g->count; i++)
        fprintf(out, "  %-8s %s\n           %s\n", g->commands[i].name, g->commands[i].arguments,
                g->commands[i].summary);
    fputs("\nexamples:\n", out);
    for (int i = 0; i < g->count; i++)
        fprintf(out, "  %.*s\n", (int)strcspn(g->commands[i].example, "\n"),
                g->commands[i].example);
}

/* -- the call ------------------------------------------------------------------------------ */

static const struct cli_group *find_group(const char *name)
{
    for (int i = 0; cli_groups[i]; i++)
        if (strcmp(cli_groups[i]->name, name) == 0)
            return cli_groups[i];
    return NULL;
}

static const struct cli_command *find_command(const struct cli_group *g, const char *name)
{
    for (int i = 0; i < g->count; i++)
        if (!g->commands[i].name || (name && strcmp(g->commands[i].name, name) == 0))
            return &g->commands[i];
    return NULL;
}

/* Options that every command takes. Returns how many of argv they use; 0: not one of them. */
static int global_option(struct cli *c, int left, char **argv)
{
    if (strcmp(argv[0], "--json") == 0) {
        c->json = true;
        return 1;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        c->help = true;
        return 1;
    }
    if (strncmp(argv[0], "--config=", 9) == 0) {
        c->config = argv[0] + 9;
        return 1;
    }
    if (strcmp(argv[0], "--config") != 0)
        return 0;
    c->config = left > 1 ? argv[1] : "";
    return 2;
}

static enum status take_option(struct cli *c, int left, char **argv, int *used)
{
    const char *name = argv[0] + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    int at = option_at(c->command, name, len);
    if (at < 0)
        return cli_bad_call(c, "there is no option --%.*s here", (int)len, name);
    if (c->values[at])
        return cli_bad_call(c, "--%.*s is given twice", (int)len, name);
    const char *o = c->command->options[at];
    bool takes_value = strpbrk(o, "!=") != NULL;
    *used = 1;
    if (!takes_value && equals)
        return cli_bad_call(c, "--%.*s takes no value", (int)len, name);
    if (takes_value && !equals && left < 2)
        return cli_bad_call(c, "--%.*s needs a value", (int)len, name);
    if (takes_value && !equals)
        *used = 2;
    c->values[at] = !takes_value ? "" : equals ? equals + 1 : argv[1];
    if (takes_value && !*c->values[at])
        return cli_bad_call(c, "the value of --%.*s is empty", (int)len, name);
    return OK;
}

static enum status check_call(struct cli *c)
{
    const struct cli_command *command = c->command;
    for (int i = 0; i < CLI_OPTIONS_MAX && command->options[i]; i++) {
        const char *o = command->options[i];
        if (strchr(o, '!') && !c->values[i])
            return cli_bad_call(c, "--%.*s is missing", (int)strcspn(o, "!"), o);
    }
    if (c->argument_count < command->least)
        return cli_bad_call(c, "an argument is missing");
    if (c->argument_count > command->most)
        return cli_bad_call(c, "there is an argument too many: %s",
                            c->arguments[c->argument_count - 1]);
    return OK;
}

static enum status take_argument(struct cli *c, const char *argument)
{
    if (!c->group) {
        c->group = find_group(argument);
        if (!c->group)
            return cli_bad_call(c, "there is no command \"%.40s\"", argument);
        c->command = find_command(c->group, NULL);
        return OK;
    }
    if (!c->command) {
        c->command = find_command(c->group, argument);
        return c->command
                   ? OK
                   : cli_bad_call(c, "tollgate %s has no \"%.40s\"", c->group->name, argument);
    }
    if (c->argument_count == CLI_ARGUMENTS_MAX)
        return cli_bad_call(c, "there are too many arguments");
    c->arguments[c->argument_count++] = argument;
    return OK;
}

static enum status parse_call(struct cli *c, int argc, char **argv)
{
    for (int i = 1, used; i < argc; i += used) {
        enum status st = OK;
        used = global_option(c, argc - i, argv + i);
        if (used)
            continue;
        used = 1;
        if (strncmp(argv[i], "--", 2) != 0)
            st = take_argument(c, argv[i]);
        else if (c->command)
            st = take_option(c, argc - i, argv + i, &used);
        else
            st = cli_bad_call(c, "unknown option %.60s in front of the command", argv[i]);
        if (st != OK)
            return st;
    }
    if (c->config && !*c->config)
        return cli_bad_call(c, "--config needs a file");
    if (c->help || !c->group)
        return OK;
    if (!c->command)
        return cli_bad_call(c, "tollgate %s: which command?", c->group->name);
    return check_call(c);
}

static int print_help(const struct cli *c)
{
    if (c->command && c->help)
        print_command(stdout, c->group, c->command);
    else if (c->group)
        print_group(stdout, c->group);
    else
        print_overview(c->help ? stdout : stderr);
    return c->help ? 0 : EXIT_BAD_CALL;
}

static int fail(const struct cli *c)
{
    fprintf(stderr, "tollgate: %s\n", c->err.text);
    if (!c->bad_call)
        return EXIT_REFUSED;
    if (c->command)
        print_usage(stderr, c->group, c->command);
    fprintf(stderr, "Help: tollgate %s%s%s%s--help\n", c->group ? c->group->name : "",
            c->group ? " " : "", c->command && c->command->name ? c->command->name : "",
            c->command && c->command->name ? " " : "");
    return EXIT_BAD_CALL;
}

static bool asks_about_program(int argc, char **argv, int *code)
{
    struct buf text;
    if (argc != 2 || (strcmp(argv[1], "--version") != 0 && strcmp(argv[1], "--settings") != 0))
        return false;
    if (strcmp(argv[1], "--version") == 0) {
        puts("tollgate " TOLLGATE_VERSION);
        return true;
    }
    buf_init(&text, 1 << 20);
    if (config_describe(settings, SETTING_COUNT, &text) == OK)
        fputs(buf_cstr(&text), stdout);
    else
        *code = EXIT_REFUSED;
    buf_done(&text);
    return true;
}

int cli_main(int argc, char **argv)
{
    struct cli c = {.config = getenv("TOLLGATE_CONFIG")};
    int code = 0;
    if (asks_about_program(argc, argv, &code))
        return code;
    if (c.config && !*c.config)
        c.config = NULL;
    enum status st = parse_call(&c, argc, argv);
    if (st == OK && (c.help || !c.group))
        return print_help(&c);
    if (st == OK)
        st = config_load(c.config, settings, SETTING_COUNT, config_sections, &c.settings, &c.err);
    if (st == OK)
        st = c.command->run(&c);
    if (st != OK)
        code = fail(&c);
    pg_free(c.pg);
    redis_sync_free(c.redis);
    config_done(settings, SETTING_COUNT, &c.settings);
    if (fflush(stdout) != 0 && code == 0) {
        fprintf(stderr, "tollgate: cannot write the answer: %s\n", strerror(errno));
        code = EXIT_REFUSED;
    }
    return code;
}

/* -- for the commands ------------------------------------------------------------------------ */

enum status cli_need_config(struct cli *c)
{
    return c->config ? OK : cli_bad_call(c, "--config FILE is missing");
}

enum status cli_need_pg(struct cli *c)
{
    if (c->pg)
        return OK;
    c->pg = pg_connect(c->settings.database_url, TIMEOUT_MS, &c->err);
    if (c->pg)
        return OK;
    error_prefix(&c->err, "PostgreSQL ([common] database_url)");
    return UNAVAILABLE;
}

enum status cli_need_redis(struct cli *c)
{
    if (c->redis)
        return OK;
    const char *password = c->settings.redis_password;
    struct redis_options options = {.url = c->settings.redis_url,
                                    .password = *password ? password : NULL,
                                    .connect_timeout_ms = TIMEOUT_MS,
                                    .command_timeout_ms = TIMEOUT_MS};
    c->redis = redis_sync_new(&options, &c->err);
    if (c->redis)
        return OK;
    error_prefix(&c->err, "Redis ([common] redis_url)");
    return UNAVAILABLE;
}

enum status cli_print(struct cli *c, struct report *r, bool single)
{
    struct buf out;
    buf_init(&out, OUTPUT_MAX);
    enum status st =
        report_write_json(r, single, &out); /* also tells whether the report is whole */
    if (st != OK)
        error_set(&c->err, st, "the answer is too large");
    else if (c->json)
        printf("%s\n", buf_cstr(&out));
    else if (single)
        report_print_fields(r, stdout);
    else
        report_print_table(r, stdout);
    buf_done(&out);
    report_free(r);
    return st;
}

void cli_say(const struct cli *c, const char *format, ...)
{
    if (c->json)
        return;
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    fputc('\n', stdout);
}
