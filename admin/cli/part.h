/*
 * One daemon under `tollgate up`: started as a child whose output goes to a log file of its own,
 * asked for its readiness, ended by a signal. It dies with us, also when we are killed. Main
 * thread only.
 */
#ifndef ADMIN_CLI_PART_H
#define ADMIN_CLI_PART_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/address.h"

enum part_state {
    PART_IDLE,     /* not started yet, or ended on our wish */
    PART_STARTING, /* runs, has not been ready yet */
    PART_READY,    /* has been ready since it was started */
    PART_PAUSING,  /* ended by itself, will be started again */
    PART_ENDING,   /* was told to end */
};

struct part {
    const char *name;   /* worker, billing, gateway, admin */
    char program[4096]; /* its file */
    const char *config; /* absolute path */
    char log_path[4096];
    int64_t log_start;    /* bytes of the log before this run */
    struct address probe; /* of its admin listener */
    char why[200];        /* it was not ready when last asked, in its own words */
    enum part_state state;
    pid_t pid;              /* 0: none */
    int64_t since_ms;       /* monotonic: of the state */
    int64_t pause_ms;       /* the next one */
    int64_t end_timeout_ms; /* after SIGTERM */
    int ends;               /* by itself, in a row without a good run between */
};

/* Starts it: IDLE or PAUSING to STARTING. */
enum status part_start(struct part *p, int64_t now_ms, struct error *err);
/* Asks /readyz; STARTING becomes READY when it says so. true: ready. */
bool part_probe(struct part *p, int64_t now_ms);
void part_signal(struct part *p, int signum);  /* no child: does nothing */
void part_end(struct part *p, int64_t now_ms); /* SIGTERM; to ENDING, or IDLE when none runs */
/* The child has gone with this wait status: to IDLE when told to, else to PAUSING. */
void part_gone(struct part *p, int wait_status, int64_t now_ms);
/* What a wait status says: "exit code 1", "killed by signal 9 (Killed)". */
void part_describe_end(int wait_status, char *out, size_t size);
/* The last lines that this run put into its log, indented, to standard error. */
void part_print_log(const struct part *p, int lines);

#endif
