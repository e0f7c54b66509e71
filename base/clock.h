/* Time. Functions that depend on it take it as an argument; programs read it here. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_ms(void); /* since some fixed point; never steps */
int64_t clock_mono_us(void);
int64_t clock_wall_ms(void); /* since 1970, UTC; may step */

/* "2026-11-23T10:20:30.123Z" of a wall time; out holds at least 25 bytes. */
void clock_format_utc(int64_t wall_ms, char *out, size_t size);

#endif
