/* UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef WORKER_UTF8_H
#define WORKER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/banned.h"

enum utf8_state { UTF8_WHOLE, UTF8_CUT, UTF8_BAD };

/* Looks at the character that starts at data, len > 0. *used: its bytes when WHOLE; when BAD the
 * bytes that one U+FFFD stands for. CUT: right so far, more bytes are needed. */
enum utf8_state utf8_next(const uint8_t *data, size_t len, size_t *used);
bool utf8_valid(const uint8_t *data, size_t len);

#endif
