/*
 * Unicode's canonical composition (NFC), which some tokenizers ask for: characters that can be
 * written as one code point or as several, "é", become the one. Pure.
 */
#ifndef WORKER_NFC_H
#define WORKER_NFC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Whether a text needs a closer look: false is sure, for texts of Latin letters without marks. */
bool nfc_may_change(const char *text, size_t len);
/* Appends the composed text; text is valid UTF-8. NOMEM. */
enum status nfc_compose(const char *text, size_t len, struct buf *out);

#endif
