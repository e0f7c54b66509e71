/*
 * The control plane's REST API (JSON under /v1/admin). A call blocks on PostgreSQL, so calls run on
 * a few threads of their own, each with its own connections; the loop only passes them on. Every
 * call is authenticated by an administrator's key and allowed by its role.
 */
#ifndef ADMIN_API_API_H
#define ADMIN_API_API_H

#include <stdbool.h>

#include "admin/report.h"
#include "auth/manage.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/pg.h"
#include "base/redis.h"

enum { API_BODY_MAX = 64 << 20 };

/* One call, on its thread. */
struct api_call {
    const char *method, *path, *query; /* query may be NULL */
    const char *body;
    size_t body_len;
    struct actor actor; /* the administrator, and the peer's address */
    struct admin_identity who;
    struct json *json; /* the body of a POST or PUT: an object */
    struct pg *pg;
    struct redis_sync *redis; /* NULL: away; changes then reach gateways through billing */
    const char *argument;     /* what stands for * in the route, or NULL */
    struct buf out;           /* the JSON answer */
    struct error err;
};

/* The answer is in call->out on OK. INVALID: 400, DENIED: 403, NOT_FOUND: 404, CONFLICT: 409,
 * UNAVAILABLE: 503, anything else: 500. */
typedef enum status api_fn(struct api_call *call);

struct api_route {
    const char *method;
    const char *path; /* '*' at the end stands for one element */
    bool writes;      /* owners and admins alone */
    api_fn *run;
};

extern const struct api_route api_routes[]; /* ended by a NULL method */

/* Finds the route and runs it. *status: of HTTP; call->out: the body, always set. */
void api_run(struct api_call *call, int *status);

/* A query parameter, percent-decoded, in `room`; NULL: not given. */
const char *api_query(const struct api_call *call, const char *name, char *room, size_t size);
/* A string member of the body; absent: INVALID when required, else *out = NULL. */
enum status api_member(struct api_call *call, const char *name, bool required, const char **out);
/* Tells the gateways about each key that the change affects. */
void api_publish(struct api_call *call, enum limit_subject subject, const struct uuid *id);
/* {"error": {...}} in call->out. */
void api_error(struct buf *out, int status, const char *message);

#endif
