/*
 * Money is integers. A pico-unit is 1e-12 of the currency, a nano-unit 1e-9. A price of
 * P micro-units per million tokens is P pico-units per token. Sums are 128 bits wide.
 */
#ifndef BASE_MONEY_H
#define BASE_MONEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef __int128 money_pico; /* the one typedef here: C has no keyword for it */

enum { MONEY_TEXT_SIZE = 48 };

/* Nano-units, rounded up (against the spender). Saturates at INT64_MAX. */
int64_t money_nano_up(money_pico pico);
/* Nano-units, rounded down (a balance, for the same reason). Saturates. */
int64_t money_nano_down(money_pico pico);

/* "12.345678901234": exact, without trailing zeros beyond two decimals. */
void money_format(money_pico pico, char out[MONEY_TEXT_SIZE]);
/* Decimal text such as "12.5", "-0.0028", at most 12 decimals, no exponent, at most 18 digits
 * before the point. false: not such a number. */
bool money_parse(const char *text, money_pico *out);
/* Plain integer text of the pico-units, for NUMERIC columns, and back. */
void money_format_pico(money_pico pico, char out[MONEY_TEXT_SIZE]);
bool money_parse_pico(const char *text, money_pico *out);
/* Rounds half up (away from zero) to `decimals` decimals of the currency (0..4); the result
 * is in minor units. */
int64_t money_round_minor(money_pico pico, int decimals);

#endif
