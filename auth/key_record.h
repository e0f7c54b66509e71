/*
 * What a gateway knows of an API key: identity, state, scopes and the limits of the key, its
 * project and its tenant, in one value. PostgreSQL is its source; Redis holds copies as JSON.
 */
#ifndef AUTH_KEY_RECORD_H
#define AUTH_KEY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"

enum { KEY_MODELS_MAX = 32, KEY_MODEL_NAME_MAX = 128, KEY_PRIORITY_MAX = 100 };

enum limit_subject { SUBJECT_KEY, SUBJECT_PROJECT, SUBJECT_TENANT, SUBJECTS };

/* 0: no limit. */
struct limits {
    int64_t requests_per_min;
    int64_t tokens_per_min;
    int64_t concurrency;
};

struct key_record {
    struct uuid key_id, project_id, tenant_id;
    int64_t version;         /* grows with every change to key, project, tenant or limits */
    int64_t expires_wall_ms; /* 0: never */
    bool revoked;            /* also when its project or tenant is suspended */
    bool prepaid;            /* the tenant pays from a balance */
    char currency[4];
    struct limits limits[SUBJECTS];
    int priority; /* of its project, -KEY_PRIORITY_MAX .. KEY_PRIORITY_MAX; higher begins first */
    int model_count;                                 /* 0: all models */
    char models[KEY_MODELS_MAX][KEY_MODEL_NAME_MAX]; /* last: see key_record_bytes */
};

/* How much of a record is in use: a copy of so many bytes is whole. */
size_t key_record_bytes(const struct key_record *r);

bool key_record_allows(const struct key_record *r, const char *model);
/* From the JSON of a row of the view key_records, as Redis holds it too. CORRUPT: it is not. */
enum status key_record_parse(const char *json, size_t len, struct key_record *out);

#endif
