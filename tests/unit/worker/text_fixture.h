/* Shared by the tests of tokenizer, chat and textout: where the models are, a small tokenizer. */
#ifndef TESTS_UNIT_WORKER_TEXT_FIXTURE_H
#define TESTS_UNIT_WORKER_TEXT_FIXTURE_H

#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/unit/check.h"

static inline const char *fixture_shared(void)
{
    const char *dir = getenv("TOLLGATE_SHARED");
    return dir ? dir : "../shared";
}

/* The folder of the demo model; ends the test as skipped when it is not there. */
static inline const char *fixture_demo(void)
{
    static char path[4096];
    if (access("models/demo/tokenizer.json", R_OK) == 0)
        return "models/demo";
    snprintf(path, sizeof path, "%s/models/demo", fixture_shared());
    if (access(path, R_OK) != 0)
        CHECK_SKIP("models/demo is not there");
    return path;
}

#define FIXTURE_SPLIT                                                                              \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s+|\\\\S+\"},\"behavior\":\"Isolated\","     \
    "\"invert\":false}"
#define FIXTURE_BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"

/* The character that byte-level vocabularies write for a byte. */
static inline int fixture_byte_char(int byte)
{
    int next = 256;
    for (int b = 0; b < 256; b++) {
        int printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return printable ? b : next;
        next += !printable;
    }
    return 0;
}

/* A tokenizer.json whose ids 0-255 are the bytes, 256 "ab", 257 "abc", 258 "bc", 259 "aa",
 * 260 "aaaa", and the added tokens 300 "<think>", 301 "</think>", 302 "<end>", 303 "<pad>"
 * (special), 304 "<calls>", 305 "<call>", 306 "<sep>", 307 "</call>", 308 "</calls>". Merges in this order: b+c, a+b, ab+c, a+a, aa+aa. */
static inline void fixture_tokenizer(struct buf *out)
{
    buf_init(out, 1 << 20);
    buf_adds(out, "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\","
                  "\"pretokenizers\":[" FIXTURE_SPLIT "," FIXTURE_BYTE_LEVEL "]},"
                  "\"decoder\":{\"type\":\"ByteLevel\"},\"added_tokens\":["
                  "{\"id\":300,\"content\":\"<think>\",\"lstrip\":false,\"special\":false},"
                  "{\"id\":301,\"content\":\"</think>\",\"lstrip\":false,\"special\":false},"
                  "{\"id\":302,\"content\":\"<end>\",\"lstrip\":false,\"special\":true},"
                  "{\"id\":303,\"content\":\"<pad>\",\"lstrip\":false,\"special\":true},"
                  "{\"id\":304,\"content\":\"<calls>\"},{\"id\":305,\"content\":\"<call>\"},"
                  "{\"id\":306,\"content\":\"<sep>\"},{\"id\":307,\"content\":\"</call>\"},"
                  "{\"id\":308,\"content\":\"</calls>\"}],"
                  "\"model\":{\"type\":\"BPE\",\"ignore_merges\":false,\"vocab\":{");
    for (int b = 0; b < 256; b++)
        buf_addf(out, "\"\\u%04x\":%d,", fixture_byte_char(b), b);
    buf_adds(out, "\"ab\":256,\"abc\":257,\"bc\":258,\"aa\":259,\"aaaa\":260},"
                  "\"merges\":[\"b c\",\"a b\",[\"ab\",\"c\"],\"a a\",[\"aa\",\"aa\"]]}}");
}

#endif
