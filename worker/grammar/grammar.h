/*
 * Structured output: a JSON Schema (or JSON as such, or texts around schemas) becomes a grammar,
 * which state.h turns into masks of the tokens that may come next. What a grammar accepts is valid
 * JSON and satisfies the schema; whatever it accepts can always be ended.
 *
 * Schemas: type (a name or several), enum, const, anyOf, oneOf of schemas that have no value in
 * common, allOf, $ref into the same document (recursion included), $defs, properties, required,
 * additionalProperties, items, prefixItems, minItems, maxItems, pattern (regex.h), format
 * (date-time, date, time, uuid, email, ipv4; others are annotations), minLength, maxLength,
 * minimum, maximum, exclusiveMinimum, exclusiveMaximum. Annotations (title, description, default,
 * ...) are ignored; a keyword that would change the meaning is an error. strict: every property is
 * required, additionalProperties is false, and unknown keywords are errors. Otherwise an object
 * that names properties may have only these, unless additionalProperties says more.
 *
 * How the text may look: properties in the schema's order; white space is one space or a newline
 * and at most 32 spaces or 8 tabs, after { [ , and before } ], and one space after a colon.
 * Integers have at most 18 digits where no bound asks for more, and neither sign nor point for
 * zero. Numbers with bounds have no exponent and at most 15 digits. No \u0000. Containers nest at
 * most 64 deep.
 */
#ifndef WORKER_GRAMMAR_GRAMMAR_H
#define WORKER_GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Any thread; counted references. Unchanging but for its masks, which have a lock of their own. */
struct grammar;

struct grammar_limits {
    size_t schema_bytes; /* of one schema's text */
    uint32_t nodes;      /* states of the automaton, all schemas together */
    uint64_t work;       /* steps of compiling; some 10 ns each */
};
extern const struct grammar_limits grammar_limits_default; /* 256 KiB, 60,000, 2,000,000 */

enum grammar_part_kind {
    GRAMMAR_LITERAL,     /* these bytes */
    GRAMMAR_SCHEMA,      /* a JSON text that the schema allows */
    GRAMMAR_JSON_OBJECT, /* any JSON object */
    GRAMMAR_TEXT,        /* any text that does not hold these bytes; control characters are only
                            tabs and line ends */
    GRAMMAR_SEQUENCE,    /* the parts, one after the other */
    GRAMMAR_CHOICE,      /* one of the parts */
    GRAMMAR_LIST,        /* the first part once or more, with the second between them */
};

struct grammar_part {
    enum grammar_part_kind kind;
    const char *text; /* LITERAL: the bytes (UTF-8); SCHEMA: its JSON text; TEXT: ASCII, the first
                         byte nowhere else in it */
    size_t len;
    bool strict;                      /* SCHEMA */
    const char *place;                /* SCHEMA: what errors call it; NULL: "schema" */
    const struct grammar_part *parts; /* SEQUENCE, CHOICE: at least one; LIST: two */
    size_t count;
};

/* limits NULL: the defaults. INVALID: not JSON, not a schema, not supported, or impossible to
 * satisfy; LIMITED: too large. Both name the place: "schema.properties.age.multipleOf: not
 * supported". */
enum status grammar_compile(const struct grammar_part *part, const struct grammar_limits *limits,
                            struct grammar **out, struct error *err);
enum status grammar_compile_schema(const char *text, size_t len, bool strict, struct grammar **out,
                                   struct error *err);
enum status grammar_compile_json_object(struct grammar **out, struct error *err);

struct grammar *grammar_ref(struct grammar *g);
void grammar_unref(struct grammar *g);                   /* NULL is fine */
bool grammar_is_shared(const struct grammar *g);         /* there is more than one reference */
size_t grammar_bytes(struct grammar *g);                 /* memory held, masks included */
size_t grammar_automaton_bytes(const struct grammar *g); /* without them */

#endif
