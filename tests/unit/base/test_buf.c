#include "base/buf.h"

#include "tests/unit/check.h"

int main(void)
{
    struct buf b;
    buf_init(&b, 1000);
    CHECK_INT(buf_adds(&b, "hello "), OK);
    CHECK_INT(buf_addf(&b, "%d", 42), OK);
    CHECK_STR(buf_cstr(&b), "hello 42");
    buf_eat(&b, 6);
    CHECK_STR(buf_cstr(&b), "42");

    char block[1000] = {0};
    CHECK_INT(buf_add(&b, block, 999), LIMITED);
    CHECK_INT(buf_len(&b), 2);
    CHECK_INT(buf_add(&b, block, 998), OK);
    CHECK(buf_cstr(&b) != NULL); /* the NUL has room even when the buffer is full */
    CHECK_INT(buf_add(&b, block, 1), LIMITED);

    /* A queue that is eaten as fast as it is filled stays small. */
    buf_clear(&b);
    for (int i = 0; i < 10000; i++) {
        CHECK_INT(buf_add(&b, block, 100), OK);
        if (i > 2)
            buf_eat(&b, 100);
    }
    CHECK_INT(buf_len(&b), 300);
    CHECK(b.size <= 2048);
    buf_done(&b);
    return check_done();
}
