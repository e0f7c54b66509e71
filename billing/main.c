#include <getopt.h>
#include <signal.h>

#include "base/health.h"
#include "base/log.h"
#include "billing/relay.h"
#include "billing/work.h"

#ifndef TOLLGATE_VERSION
#define TOLLGATE_VERSION "0.1.0"
#endif

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_BAD_CALL = 2 };

static const char usage_text[] =
    "usage: tollgate-billing --config FILE   ship journals, keep the ledger and the balances\n"
    "\n"
    "  --config FILE      settings file, sections [common] and [billing]\n"
    "  --settings         print the table of settings\n"
    "  --version, --help\n"
    "\n"
    "Of several processes on one database one works, the others wait to take its place.\n"
    "\n"
    "examples:\n"
    "  tollgate-billing --config /etc/tollgate/tollgate.conf\n"
    "  curl -s http://127.0.0.1:9466/readyz\n"
    "\n"
    "exit status: 0 stopped by SIGTERM or SIGINT, 1 it could not start (one line says why),\n"
    "2 a wrong call\n";

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"settings", no_argument, NULL, 's'},
    {"version", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int print_settings(void)
{
    struct buf out;
    buf_init(&out, 1 << 20);
    enum status st = config_describe(billing_settings_table, billing_settings_count, &out);
    if (st == OK)
        fwrite(buf_head(&out), 1, buf_len(&out), stdout);
    buf_done(&out);
    return st == OK ? EXIT_DONE : EXIT_REFUSED;
}

/* Blocked before any thread is made, so that they arrive here alone. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(const struct billing_settings *s)
{
    struct error err;
    sigset_t signals;
    int number;
    block_signals(&signals);
    struct metrics *metrics = metrics_new();
    if (!metrics) {
        log_error("cannot start: out of memory");
        return EXIT_REFUSED;
    }
    struct work *work = work_start(s, metrics, &err);
    struct relay *relay = work ? relay_start(s, metrics, &err) : NULL;
    struct health_options health_options = {
        .listen = s->admin_listen, .metrics = metrics, .ready = work_ready, .arg = work};
    struct health *health = relay ? health_new(NULL, &health_options, &err) : NULL;
    int result = EXIT_DONE;
    if (health) {
        log_info("started");
        sigwait(&signals, &number);
        log_info("stopping");
    } else {
        log_error("cannot start: %s", err.text);
        result = EXIT_REFUSED;
    }
    health_free(health);
    relay_stop(relay);
    work_stop(work);
    metrics_free(metrics);
    return result;
}

static int start(const char *path)
{
    struct billing_settings s = {0};
    struct error err;
    log_init("billing", LOG_LEVEL_INFO);
    if (config_load(path, billing_settings_table, billing_settings_count, config_sections, &s,
                    &err) != OK) {
        fprintf(stderr, "tollgate-billing: %s\n", err.text);
        return EXIT_REFUSED;
    }
    int level = log_level_parse(s.log_level);
    int result = EXIT_REFUSED;
    if (level < 0) {
        fprintf(stderr, "tollgate-billing: log_level is debug, info, warn or error\n");
    } else {
        log_init("billing", (enum log_level)level);
        result = run(&s);
    }
    config_done(billing_settings_table, billing_settings_count, &s);
    return result;
}

int main(int argc, char **argv)
{
    const char *config = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            config = optarg;
            break;
        case 's':
            return print_settings();
        case 'v':
            printf("tollgate-billing %s\n", TOLLGATE_VERSION);
            return EXIT_DONE;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_DONE;
        default:
            return EXIT_BAD_CALL;
        }
    }
    if (optind < argc || !config) {
        fprintf(stderr, "tollgate-billing: %s; see --help\n",
                optind < argc ? "unexpected argument" : "--config FILE is missing");
        return EXIT_BAD_CALL;
    }
    return start(config);
}
