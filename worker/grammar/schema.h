/* What the files of the schema compiler share; nobody else includes this. */
#ifndef WORKER_GRAMMAR_SCHEMA_H
#define WORKER_GRAMMAR_SCHEMA_H

#include "base/json.h"
#include "worker/grammar/private.h"
#include "worker/grammar/regex.h"

enum {
    SCHEMA_REFS_MAX = 1024,
    SCHEMA_PROPERTIES_MAX = 1000, /* of one object */
    SCHEMA_OPTIONAL_MAX = 200,    /* of them, those that may be left out */
    SCHEMA_ITEMS_MAX = 2048,      /* minItems and maxItems */
    SCHEMA_LENGTH_MAX = 1 << 24,  /* minLength and maxLength */
    SCHEMA_CHOICES_MAX = 1000,    /* of an enum */
    SCHEMA_BRANCHES_MAX = 100,    /* of an anyOf */
    SCHEMA_PLACE_MAX = 256,
};

enum schema_type {
    TYPE_STRING = 1,
    TYPE_NUMBER = 2,
    TYPE_INTEGER = 4,
    TYPE_BOOLEAN = 8,
    TYPE_NULL = 16,
    TYPE_OBJECT = 32,
    TYPE_ARRAY = 64,
};

struct schema {
    struct automaton *a;
    const struct json *root;
    bool strict;
    struct error *err;
    char place[SCHEMA_PLACE_MAX]; /* of what is being compiled */
    size_t place_len;
    size_t place_root; /* length of the document's own name */
    struct schema_ref {
        const struct json *value;
        uint32_t rule;
        char place[SCHEMA_PLACE_MAX];
    } * refs; /* schemas that are rules, the root first; compiled in order */
    uint32_t ref_count;
    struct schema_text *texts; /* schemas that were put together */
};

/* Adds a step (".properties", "[2]") to the place; returns what schema_leave takes. */
size_t schema_enter(struct schema *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void schema_leave(struct schema *s, size_t before);
/* The error with the place in front: at a keyword, or at the schema itself (NULL). */
enum status schema_error(struct schema *s, enum status st, const char *keyword, const char *format,
                         ...) __attribute__((format(printf, 4, 5)));
enum status schema_full(struct schema *s); /* the automaton's failure, here */
/* A whole number, *out untouched if the keyword is absent. */
enum status schema_count(struct schema *s, const struct json *v, const char *keyword, uint32_t most,
                         uint32_t *out);

/* What has to be called for a schema, without a node to return to. outer_type: a "type" that
 * applies beside the schema's own; or NULL. */
enum status schema_value(struct schema *s, const struct json *v, const struct json *outer_type,
                         struct call *out);
enum status schema_object(struct schema *s, const struct json *v, struct call *out);
enum status schema_array(struct schema *s, const struct json *v, struct call *out);
enum status schema_string(struct schema *s, const struct json *v, struct call *out);
enum status schema_number(struct schema *s, const struct json *v, bool integer, struct call *out);
/* enum and const. types: a set of enum schema_type. */
enum status schema_literals(struct schema *s, const struct json *v, int types, struct call *out);

/* What a "$ref" points at; NULL: nothing. */
const struct json *schema_target(struct schema *s, const struct json *v);
enum status schema_check_ref(struct schema *s, const struct json *v);
enum status schema_check_keywords(struct schema *s, const struct json *v);
/* A set of enum schema_type from a "type". False: it is none. */
bool schema_read_types(const struct json *type, int *out);
int schema_common_types(int a, int b);
/* The types that keywords speak of, where no type is given; 0: none. */
int schema_implied_types(const struct json *v);

/* schema_merge.c: an allOf of several, its siblings included. */
enum status schema_all_of(struct schema *s, const struct json *v, const struct json *outer,
                          struct call *out);
/* Another schema's text as a rule; the same text gives the same rule. */
enum status schema_add_text(struct schema *s, const char *text, size_t len, struct call *out);
/* schema_disjoint.c: no value is valid for both; false: that is not easily seen. */
bool schema_disjoint(struct schema *s, const struct json *a, const struct json *b);
/* As JSON Schema compares values. False, too, once there were too many steps (automaton_work). */
bool schema_equal(struct schema *s, const struct json *a, const struct json *b);

/* JSON in its compact form, strings as dfa_rule writes them. */
enum status schema_write(struct buf *out, const struct json *v);
enum status schema_write_string(struct buf *out, const char *text);
bool schema_literal_is(const struct json *v, int types);

static inline struct call schema_call(uint32_t rule)
{
    return (struct call){rule, GRAMMAR_NONE, 0, UINT32_MAX};
}

#endif
