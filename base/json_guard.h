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
static inline int json_utf8_len(const uint8_t *at, const uint8_t *end)
{
    uint8_t c = *at;
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    int n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (end - at < n)
        return 0;
    /* The second byte rules out overlong forms, surrogates and what is past U+10FFFF. */
    uint8_t least = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t most = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (at[1] < least || at[1] > most)
        return 0;
    for (int i = 2; i < n; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* What is wrong with the number at `at`, and where (*stop); NULL: nothing, *stop is behind it. */
const char *json_number_problem(const uint8_t *at, const uint8_t *end, const uint8_t **stop);
/* The first byte that is not plain in a string: a quote, backslash, control or from 0x80. */
const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end);

#endif
