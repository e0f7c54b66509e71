/*
 * The price book, read again every so often by a thread of its own (libpq blocks there), and handed
 * to each loop as an immutable snapshot. While PostgreSQL is away the last one stays in use.
 */
#ifndef GATEWAY_PRICES_H
#define GATEWAY_PRICES_H

#include "billing/pricebook.h"

struct prices; /* one snapshot, counted */

const struct pricebook *prices_book(const struct prices *p);
void prices_ref(struct prices *p);   /* any thread */
void prices_unref(struct prices *p); /* any thread; NULL is fine */

struct prices_reader;

struct prices_options {
    const char *database_url;
    int64_t refresh_ms, timeout_ms;
    /* A new snapshot, on the reader's thread. The callee takes references of its own. */
    void (*changed)(struct prices *p, void *arg);
    void *arg;
};

/* The options' strings must outlive it. */
struct prices_reader *prices_reader_new(const struct prices_options *options, struct error *err);
void prices_reader_free(struct prices_reader *r); /* joins; NULL is fine */

#endif
