#include "base/id.h"

#include "base/crypto.h"
#include "tests/unit/check.h"

int main(void)
{
    struct uuid last = uuid_v7(1700000000000);
    CHECK_INT(uuid_v7_wall_ms(&last), 1700000000000);
    CHECK_INT(last.bytes[6] >> 4, 7);
    CHECK_INT(last.bytes[8] >> 6, 2);
    for (int i = 0; i < 20000; i++) {
        struct uuid id = uuid_v7(1700000000000 - i % 3); /* a clock that steps back */
        CHECK(memcmp(last.bytes, id.bytes, 16) < 0);
        last = id;
    }
    char text[UUID_TEXT_SIZE];
    struct uuid back;
    uuid_format(&last, text);
    CHECK(uuid_parse(text, 36, &back) && uuid_equal(&last, &back));
    CHECK(!uuid_parse(text, 35, &back));
    text[8] = '0';
    CHECK(!uuid_parse(text, 36, &back));

    /* RFC 3720 B.4: 32 bytes of zeros, and the ASCII digits. */
    uint8_t zeros[32] = {0};
    CHECK_INT(crypto_crc32c(0, zeros, 32), 0x8a9136aa);
    CHECK_INT(crypto_crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_INT(crypto_crc32c(crypto_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    return check_done();
}
