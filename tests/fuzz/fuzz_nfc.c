/* links: tg_worker */
/* Composition of any text: UTF-8 comes out, composing it again changes nothing, and what is said
 * not to need it does not. Runs of marks longer than are looked at together are left out. */
#include <stdlib.h>
#include <string.h>

#include "worker/nfc.h"
#include "worker/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct buf once, twice;
    const char *text = (const char *)data;
    if (len > 200 || !utf8_valid(data, len))
        return 0;
    buf_init(&once, 1 << 20);
    buf_init(&twice, 1 << 20);
    if (nfc_compose(text, len, &once) != OK)
        abort();
    size_t n = buf_len(&once);
    if (n && !utf8_valid(buf_head(&once), n))
        abort();
    if (!nfc_may_change(text, len) && (n != len || (n && memcmp(buf_head(&once), text, n) != 0)))
        abort();
    if (n && nfc_compose((const char *)buf_head(&once), n, &twice) != OK)
        abort();
    if (buf_len(&twice) != n || (n && memcmp(buf_head(&once), buf_head(&twice), n) != 0))
        abort();
    buf_done(&once);
    buf_done(&twice);
    return 0;
}
