/* The private half of base/json.h: what the guard and the rest of base/json.c share. */
#ifndef BASE_JSON_GUARD_H
#define BASE_JSON_GUARD_H

#include "base/json.h"

enum {
    JSON_DEPTH_MAX = 1000, /* the most that limits may ask for; cJSON recurses */
    JSON_NUMBER_MAX = 63,  /* characters of a number that cJSON can read */
};

struct json_facts {
    bool long_number; /* a number has more than JSON_NUMBER_MAX characters */
};

/* As json_guard; *facts is set on success. */
enum status json_guard_check(const char *text, size_t len, const struct json_limits *limits,
                             struct json_facts *facts, struct error *err);

/* Bytes of the well-formed UTF-8 sequence at `at`; 0: there is none. */
int json_utf8_len(const uint8_t *at, const uint8_t *end);

/* What is wrong with the number at `at`, and where (*stop); NULL: nothing, *stop is behind it. */
const char *json_number_problem(const uint8_t *at, const uint8_t *end, const uint8_t **stop);
/* The first byte that is not plain in a string: a quote, backslash, control or from 0x80. */
const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end);

#endif
