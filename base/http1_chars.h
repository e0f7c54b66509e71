/* Character classes of HTTP/1.1, for the parser's own files. */
#ifndef BASE_HTTP1_CHARS_H
#define BASE_HTTP1_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The lower case of a token character (RFC 9110, 5.6.2); 0: not one. */
extern const uint8_t http1_token_lower[256];

/* True where text[0..len) equals the lower-case word, letter case aside. */
bool http1_equals(const char *text, size_t len, const char *word);
/* Field values: tab, space, visible ASCII and bytes from 0x80. */
bool http1_value_ok(const char *text, size_t len);
/* A path and query: visible ASCII without the delimiters that no client may send raw, each
 * '%' with two hex digits behind it. */
bool http1_target_ok(const char *text, size_t len);
/* host, host:port, [v6], [v6]:port. */
bool http1_host_ok(const char *text, size_t len);

#endif
