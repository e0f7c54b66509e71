/*
 * Changes to tenants, projects, keys, limits and administrators' keys, each one statement that also
 * writes its row of the audit log (who, from where, before, after). PostgreSQL announces each
 * affected key by itself; whoever made the change should also call publish_key (auth/publish.h)
 * for the hashes of manage_key_hashes, so that no gateway waits. Blocking.
 *
 * INVALID: a name, currency or time that cannot be; CONFLICT: the name is taken; NOT_FOUND: no such
 * thing (or a key that is revoked already).
 */
#ifndef AUTH_MANAGE_H
#define AUTH_MANAGE_H

#include "auth/key_record.h"
#include "auth/key_text.h"
#include "base/pg.h"
#include "base/secret.h"

struct actor {
    const char *name;   /* a login name, or an administrator's key name */
    const char *source; /* "cli", or an address */
};

struct tenant_new {
    const char *name;     /* a slug: a-z, 0-9 and inner dashes, at most 63 characters */
    const char *currency; /* ISO 4217 */
    bool prepaid;
    const char *legal; /* a JSON object for invoices; NULL: {} */
};

enum status tenant_create(struct pg *pg, const struct actor *actor, const struct tenant_new *t,
                          struct uuid *id, struct error *err);
/* status: "active" or "suspended". Keys of what is suspended are refused. */
enum status tenant_set_status(struct pg *pg, const struct actor *actor, const struct uuid *id,
                              const char *status, struct error *err);
enum status tenant_set_legal(struct pg *pg, const struct actor *actor, const struct uuid *id,
                             const char *legal, struct error *err);

enum status project_create(struct pg *pg, const struct actor *actor, const struct uuid *tenant,
                           const char *name, struct uuid *id, struct error *err);
enum status project_set_status(struct pg *pg, const struct actor *actor, const struct uuid *id,
                               const char *status, struct error *err);
/* Of what waits for a place at a model, the highest begins first; 0 is normal. INVALID: past
 * KEY_PRIORITY_MAX, either way. */
enum status project_set_priority(struct pg *pg, const struct actor *actor, const struct uuid *id,
                                 int priority, struct error *err);

struct key_new {
    struct uuid project;
    const char *name;
    const char *const *models; /* what it may call; none: all */
    int model_count;
    const char *expires_at; /* ISO 8601; NULL: never */
};

/* *key is the only copy there will ever be: show it once, then secret_wipe it. */
enum status key_create(struct pg *pg, const struct actor *actor, const struct key_new *k,
                       struct uuid *id, struct secret *key, struct error *err);
enum status key_revoke(struct pg *pg, const struct actor *actor, const struct uuid *id,
                       struct error *err);
/* NULL, or -1 models: left as it is. expires_at "": never. */
struct key_change {
    const char *const *models;
    int model_count;
    const char *expires_at;
};
enum status key_update(struct pg *pg, const struct actor *actor, const struct uuid *id,
                       const struct key_change *change, struct error *err);

/* Each -1: left as it is; 0: no limit. */
enum status limit_set(struct pg *pg, const struct actor *actor, enum limit_subject subject,
                      const struct uuid *id, const struct limits *limits, struct error *err);

/* role: owner, admin, finance, developer or auditor. */
enum status admin_key_create(struct pg *pg, const struct actor *actor, const char *name,
                             const char *role, struct uuid *id, struct secret *key,
                             struct error *err);
enum status admin_key_revoke(struct pg *pg, const struct actor *actor, const char *name,
                             struct error *err);

struct admin_identity {
    char name[64];
    char role[16];
};
/* DENIED: not a key that is good now; malformed, unknown, expired and revoked are alike. */
enum status admin_key_find(struct pg *pg, const char *key, size_t len, struct admin_identity *out,
                           struct error *err);

/* The SHA-256 (hex) of each key that a change of this key, project or tenant affects. */
typedef void key_hash_fn(const char *sha256_hex, void *arg);
enum status manage_key_hashes(struct pg *pg, enum limit_subject subject, const struct uuid *id,
                              key_hash_fn *fn, void *arg, struct error *err);

#endif
