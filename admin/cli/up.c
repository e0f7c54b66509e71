/*
 * `tollgate up`: the whole stack on one machine. Parts start one after another, each when the one
 * before it is ready, and end in an order that loses nothing: admin and gateway first (the
 * gateway drains), then billing (it ships what the gateway wrote), then the worker. A part that
 * ends by itself is started again after a pause that grows while it keeps ending.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/cli/cli.h"
#include "admin/cli/groups.h"
#include "admin/cli/part.h"
#include "admin/cli/parts.h"
#include "auth/migrate.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    TURN_MS = 100,        /* while something starts or pauses */
    QUIET_TURN_MS = 1000, /* else */
    START_TIMEOUT_MS = 60000,
    WORKER_TIMEOUT_MS = 600000, /* reading a large model takes minutes */
    START_NOTICE_MS = 10000,
    END_GRACE_MS = 60000, /* behind the time that a part may take to drain */
    LOOP_ENDS = 5,        /* ends in a row that are called a crash loop */
    LOG_LINES = 15,
};

struct up {
    struct cli *c;
    struct part parts[PARTS];
    bool stopping, hurry; /* a signal came; a second one came */
    bool failed;
    char config[PATH_MAX];
};

/* In the order of starting. */
static const char *const order[PARTS] = {"worker", "billing", "gateway", "admin"};

static struct part *part_named(struct up *u, const char *name)
{
    for (int i = 0; i < PARTS; i++)
        if (strcmp(u->parts[i].name, name) == 0)
            return &u->parts[i];
    return NULL;
}

static enum status make_folder(const char *path, struct error *err)
{
    if (mkdir(path, 0750) < 0 && errno != EEXIST)
        return error_errno(err, errno, "%s", path);
    return OK;
}

static enum status prepare_part(struct up *u, struct part *p, const char *name)
{
    const char *state = u->c->settings.state_dir;
    struct error *err = &u->c->err;
    p->name = name;
    p->config = u->config;
    p->end_timeout_ms = parts_drain_ms(u->config, name) + END_GRACE_MS;
    if ((size_t)snprintf(p->log_path, sizeof p->log_path, "%s/log/%s.log", state, name) >=
        sizeof p->log_path)
        return error_set(err, INVALID, "[common] state_dir is too long");
    enum status st = parts_program(name, p->program, sizeof p->program, err);
    if (st == OK && access(p->program, X_OK) < 0)
        st = error_errno(err, errno, "%s", p->program);
    return st == OK ? parts_probe_address(u->config, name, &p->probe, err) : st;
}

static enum status prepare(struct up *u)
{
    struct cli *c = u->c;
    char folder[PATH_MAX];
    enum status st = cli_need_config(c);
    if (st != OK)
        return st;
    if (!realpath(c->config, u->config))
        return error_errno(&c->err, errno, "%s", c->config);
    snprintf(folder, sizeof folder, "%s/log", c->settings.state_dir);
    st = make_folder(c->settings.state_dir, &c->err);
    if (st == OK)
        st = make_folder(folder, &c->err);
    for (int i = 0; i < PARTS && st == OK; i++)
        st = prepare_part(u, &u->parts[i], order[i]);
    return st;
}

/* The lock is held for the life of the process. */
static enum status lock_state(struct up *u)
{
    char path[PATH_MAX], pid[32] = "";
    snprintf(path, sizeof path, "%s/up.lock", u->c->settings.state_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(&u->c->err, errno, "%s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
        close(fd);
        return error_set(&u->c->err, CONFLICT,
                         "the stack of %s is running already (process %s); stop it with: kill %s",
                         u->c->settings.state_dir, pid, pid);
    }
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, pid, (size_t)n) != n)
        return error_errno(&u->c->err, errno, "%s", path);
    return OK;
}

static void report_end(const struct part *p, int wait_status)
{
    char how[100];
    part_describe_end(wait_status, how, sizeof how);
    if (p->state == PART_IDLE) {
        log_info("%s has ended (%s)", p->name, how);
        return;
    }
    log_error("%s has ended by itself: %s; its log is %s", p->name, how, p->log_path);
    if (p->ends <= LOOP_ENDS)
        part_print_log(p, LOG_LINES);
    if (p->ends == LOOP_ENDS)
        log_error("%s keeps ending (%d times in a row); it is tried again after growing pauses, "
                  "at most 10 s; 'tollgate doctor' may tell why",
                  p->name, p->ends);
}

static void reap(struct up *u)
{
    int wait_status;
    pid_t pid;
    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
        for (int i = 0; i < PARTS; i++)
            if (u->parts[i].pid == pid) {
                part_gone(&u->parts[i], wait_status, clock_mono_ms());
                report_end(&u->parts[i], wait_status);
            }
}

static void on_signal(struct up *u, int signum)
{
    if (signum == SIGHUP) {
        log_info("SIGHUP: passed on to worker, gateway and admin");
        part_signal(part_named(u, "worker"), SIGHUP);
        part_signal(part_named(u, "gateway"), SIGHUP);
        part_signal(part_named(u, "admin"), SIGHUP);
    } else if (signum != SIGCHLD && !u->stopping) {
        log_info("%s: stopping", strsignal(signum));
        u->stopping = true;
    } else if (signum != SIGCHLD) {
        u->hurry = true;
    }
}

/* Sleeps until a signal or for a turn, then does what signals ask for. */
static void turn(struct up *u, int64_t wait_ms)
{
    sigset_t set;
    sigemptyset(&set);
    static const int signals[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&set, signals[i]);
    struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000};
    int signum = sigtimedwait(&set, NULL, &wait);
    if (signum > 0)
        on_signal(u, signum);
    reap(u);
}

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static enum status not_ready(struct up *u, const struct part *p, const char *why)
{
    if (p->state == PART_STARTING)
        part_print_log(p, LOG_LINES);
    return error_set(&u->c->err, UNAVAILABLE, "%s %s (%s); its log: %s", p->name, why,
                     *p->why ? p->why : "no answer", p->log_path);
}

/* The first start: an end before it was ready is a fault to be mended by a person. */
static enum status bring_up(struct up *u, struct part *p)
{
    int64_t start = clock_mono_ms(), notice = start + START_NOTICE_MS, now = start;
    enum status st = part_start(p, start, &u->c->err);
    while (st == OK && !u->stopping) {
        turn(u, TURN_MS);
        now = clock_mono_ms();
        if (p->state == PART_PAUSING)
            return not_ready(u, p, "did not start");
        if (p->state == PART_STARTING && part_probe(p, now)) {
            log_info("%s is ready after %lld ms", p->name, (long long)(now - start));
            return OK;
        }
        if (now - start > (strcmp(p->name, "worker") == 0 ? WORKER_TIMEOUT_MS : START_TIMEOUT_MS))
            return not_ready(u, p, "did not become ready in time");
        if (now > notice) {
            log_info("%s is not ready yet, waiting: %s (log: %s)", p->name, p->why, p->log_path);
            notice = now + START_NOTICE_MS;
        }
    }
    return st;
}

/* Starts what has paused long enough and asks what has started. Returns the time to sleep. */
static int64_t tend(struct up *u)
{
    int64_t now = clock_mono_ms(), wait = QUIET_TURN_MS;
    for (int i = 0; i < PARTS; i++) {
        struct part *p = &u->parts[i];
        struct error err;
        if (p->state == PART_PAUSING && now - p->since_ms >= p->pause_ms) {
            log_info("starting %s again", p->name);
            if (part_start(p, now, &err) != OK)
                log_error("%s: %s", p->name, err.text);
        } else if (p->state == PART_STARTING && part_probe(p, now)) {
            log_info("%s is ready again", p->name);
        }
        if (p->state != PART_READY)
            wait = TURN_MS;
    }
    return wait;
}

static bool all_idle(const struct part *const *parts, int count)
{
    for (int i = 0; i < count; i++)
        if (parts[i]->state != PART_IDLE)
            return false;
    return true;
}

static bool is_overdue(const struct up *u, const struct part *p)
{
    return u->hurry || clock_mono_ms() - p->since_ms > p->end_timeout_ms;
}

/* Ends parts together and waits; one that does not end in time is killed. */
static void end_parts(struct up *u, struct part *const *parts, int count)
{
    for (int i = 0; i < count; i++)
        part_end(parts[i], clock_mono_ms());
    while (!all_idle((const struct part *const *)parts, count)) {
        turn(u, TURN_MS);
        for (int i = 0; i < count; i++)
            if (parts[i]->state == PART_ENDING && is_overdue(u, parts[i])) {
                log_warn("%s does not end: killed", parts[i]->name);
                part_signal(parts[i], SIGKILL);
            }
    }
}

static void end_all(struct up *u)
{
    struct part *front[] = {part_named(u, "admin"), part_named(u, "gateway")};
    struct part *billing[] = {part_named(u, "billing")};
    struct part *worker[] = {part_named(u, "worker")};
    end_parts(u, front, 2);
    end_parts(u, billing, 1);
    end_parts(u, worker, 1);
}

/* What no part can do without; said here, where it is clearer than in four logs. */
static enum status check_servers(struct cli *c)
{
    enum status st = cli_need_pg(c);
    if (st == OK)
        st = migrate_check(c->pg, &c->err);
    if (st == UNAVAILABLE && c->pg)
        error_prefix(&c->err, "run 'tollgate migrate' first");
    if (st == OK)
        st = cli_need_redis(c);
    pg_free(c->pg);
    redis_sync_free(c->redis);
    c->pg = NULL;
    c->redis = NULL;
    return st;
}

static enum status run_up(struct cli *c)
{
    struct up *u = calloc(1, sizeof *u);
    if (!u)
        return error_set(&c->err, NOMEM, "out of memory");
    u->c = c;
    log_init("up", (enum log_level)c->settings.log_level);
    enum status st = prepare(u);
    if (st == OK)
        st = check_servers(c);
    if (st == OK)
        st = lock_state(u);
    if (st == OK) {
        block_signals();
        for (int i = 0; i < PARTS && st == OK && !u->stopping; i++)
            st = bring_up(u, &u->parts[i]);
        if (st == OK && !u->stopping)
            log_info("all parts are ready; stop with Ctrl-C or: kill %d", (int)getpid());
        while (st == OK && !u->stopping)
            turn(u, tend(u));
        end_all(u);
        log_info("stopped");
    }
    free(u);
    return st;
}

static const struct cli_command commands[] = {{
    .arguments = "--config FILE",
    .summary = "Starts worker, billing, gateway and admin, starts again what dies, stops all\n"
               "cleanly on SIGINT or SIGTERM. Logs are in STATE/log.",
    .example = "tollgate --config tollgate.conf up",
    .run = run_up,
}};

const struct cli_group cli_up = {
    .name = "up",
    .summary = "run the whole stack on this machine",
    .commands = commands,
    .count = 1,
};
