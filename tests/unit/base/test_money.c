#include "base/money.h"

#include "tests/unit/check.h"

static const char *formatted(const char *text)
{
    static char out[MONEY_TEXT_SIZE];
    money_pico pico;
    if (!money_parse(text, &pico))
        return "refused";
    money_format(pico, out);
    return out;
}

int main(void)
{
    CHECK_STR(formatted("0"), "0.00");
    CHECK_STR(formatted("12.5"), "12.50");
    CHECK_STR(formatted("-0.0028"), "-0.0028");
    CHECK_STR(formatted("0.000000000001"), "0.000000000001");
    CHECK_STR(formatted("999999999999999999.999999999999"), "999999999999999999.999999999999");
    static const char *const bad[] = {
        "", "-", ".5", "1.", "1e3", "1,5", " 1", "1 ", "0.0000000000001", "1000000000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_STR(formatted(bad[i]), "refused");

    CHECK_INT(money_nano_up(1), 1);
    CHECK_INT(money_nano_up(1000), 1);
    CHECK_INT(money_nano_up(1001), 2);
    CHECK_INT(money_nano_up(-1500), -1);
    CHECK_INT(money_nano_down(1999), 1);
    CHECK_INT(money_nano_down(-1), -1);
    CHECK_INT(money_nano_up((money_pico)INT64_MAX * 2000), INT64_MAX);

    CHECK_INT(money_round_minor(5000000000, 2), 1); /* half a cent goes up */
    CHECK_INT(money_round_minor(4999999999, 2), 0);
    CHECK_INT(money_round_minor(-5000000000, 2), -1);
    CHECK_INT(money_round_minor(1500000000000, 0), 2);

    char text[MONEY_TEXT_SIZE];
    money_pico big = 0, back = 0;
    CHECK(money_parse_pico("-12345678901234567890123456789", &big));
    money_format_pico(big, text);
    CHECK_STR(text, "-12345678901234567890123456789");
    CHECK(money_parse_pico(text, &back) && back == big);
    return check_done();
}
