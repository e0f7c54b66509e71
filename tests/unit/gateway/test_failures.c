#include "gateway/failures.h"
#include "tests/unit/check.h"

static void test_limit(void)
{
    struct failures *f = failures_new();
    int64_t now = 1000000, retry = 0;
    CHECK(!failures_over(f, "192.0.2.1", 10, now, &retry));
    for (int i = 0; i < 9; i++)
        failures_note(f, "192.0.2.1", 10, now);
    CHECK(!failures_over(f, "192.0.2.1", 10, now, &retry));
    failures_note(f, "192.0.2.1", 10, now);
    CHECK(failures_over(f, "192.0.2.1", 10, now, &retry));
    CHECK(retry > 0 && retry <= 6001); /* one of ten leaks away in six seconds */
    CHECK(!failures_over(f, "192.0.2.2", 10, now, &retry));
    CHECK(!failures_over(f, "192.0.2.1", 10, now + retry, &retry));
    CHECK(!failures_over(f, "192.0.2.1", 0, now, &retry)); /* no limit */
    /* However many there were, a minute forgives all. */
    for (int i = 0; i < 1000; i++)
        failures_note(f, "192.0.2.1", 10, now);
    CHECK(!failures_over(f, "192.0.2.1", 10, now + 60000, &retry));
    failures_free(f);
}

/* More addresses than places: memory stays, and one that goes on is still found out. */
static void test_many(void)
{
    struct failures *f = failures_new();
    int64_t retry;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 200; i++) {
            char address[48];
            snprintf(address, sizeof address, "2001:db8::%x:%x", round, i);
            failures_note(f, address, 10, 5000);
        }
        failures_note(f, "192.0.2.7", 10, 5000);
    }
    CHECK(failures_over(f, "192.0.2.7", 10, 5000, &retry));
    failures_free(f);
}

static void test_good_keys(void)
{
    struct failures *f = failures_new();
    CHECK(!failures_was_good(f, "sk-tg-a", 7));
    failures_good_key(f, "sk-tg-a", 7);
    CHECK(failures_was_good(f, "sk-tg-a", 7));
    CHECK(!failures_was_good(f, "sk-tg-b", 7));
    CHECK(!failures_was_good(f, "", 0));
    failures_free(f);
    failures_free(NULL);
}

int main(void)
{
    test_limit();
    test_many();
    test_good_keys();
    return check_done();
}
