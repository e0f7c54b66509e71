/* Shared by base/pg.c and base/pg_async.c alone. */
#ifndef BASE_PG_INTERNAL_H
#define BASE_PG_INTERNAL_H

#include <libpq-fe.h>

#include "base/pg.h"

struct pg_result {
    PGresult *res;
};

enum { PG_PARAMS_MAX = 64 };

/* The status of a result that is not a success, and its words without DETAIL (which quotes row
 * values). res may be NULL: the connection failed. */
enum status pg_failure(PGconn *conn, const PGresult *res, struct error *err);

#endif
