#include "worker/utf8.h"

#include "tests/unit/check.h"

static const struct {
    const char *bytes;
    enum utf8_state state;
    size_t used;
} cases[] = {
    {"a", UTF8_WHOLE, 1},
    {"\x7f", UTF8_WHOLE, 1},
    {"\xc2\x80", UTF8_WHOLE, 2},
    {"\xe0\xa0\x80", UTF8_WHOLE, 3},
    {"\xed\x9f\xbf", UTF8_WHOLE, 3},
    {"\xf0\x90\x80\x80", UTF8_WHOLE, 4},
    {"\xf4\x8f\xbf\xbf", UTF8_WHOLE, 4},
    {"\xc2", UTF8_CUT, 1},
    {"\xe4\xbd", UTF8_CUT, 2},
    {"\xf0\x9f\x99", UTF8_CUT, 3},
    {"\x80", UTF8_BAD, 1},
    {"\xc0\x80", UTF8_BAD, 1},
    {"\xc1\xbf", UTF8_BAD, 1},
    {"\xe0\x9f\xbf", UTF8_BAD, 1},
    {"\xed\xa0\x80", UTF8_BAD, 1},
    {"\xf0\x8f\x80\x80", UTF8_BAD, 1},
    {"\xf4\x90\x80\x80", UTF8_BAD, 1},
    {"\xf5\x80\x80\x80", UTF8_BAD, 1},
    {"\xff", UTF8_BAD, 1},
    {"\xe4\xbd"
     "a",
     UTF8_BAD, 2},
    {"\xf0\x9f\x99"
     "a",
     UTF8_BAD, 3},
};

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t used = 0;
        const uint8_t *data = (const uint8_t *)cases[i].bytes;
        CHECK_INT(utf8_next(data, strlen(cases[i].bytes), &used), cases[i].state);
        if (cases[i].state != UTF8_CUT)
            CHECK_INT(used, cases[i].used);
        CHECK_INT(utf8_valid(data, strlen(cases[i].bytes)), cases[i].state == UTF8_WHOLE);
    }
    CHECK(utf8_valid(NULL, 0));
    return check_done();
}
