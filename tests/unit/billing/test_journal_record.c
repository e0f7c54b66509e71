#include "billing/journal_record.h"

#include "tests/unit/billing/samples.h"

static bool same(const struct meter_context *a, const struct meter_context *b)
{
    uint8_t x[RECORD_BYTES_MAX], y[RECORD_BYTES_MAX];
    size_t n = record_put_admit(a, x);
    return record_put_admit(b, y) == n && memcmp(x, y, n) == 0 && strcmp(a->model, b->model) == 0 &&
           a->hold_tokens == b->hold_tokens && a->price.output_pico == b->price.output_pico;
}

static void check_round_trip(void)
{
    struct meter_context c = sample_context(1800000000000);
    memset(c.model, 'm', MODEL_NAME_MAX - 1);
    uint8_t raw[RECORD_BYTES_MAX];
    struct record_view v;
    struct meter_context c2;
    size_t n = record_put_admit(&c, raw);
    CHECK_INT(record_view(raw, n, &v), RECORD_GOOD);
    CHECK_INT(v.type, RECORD_ADMIT);
    CHECK_INT(record_unpack_admit(&v, &c2), OK);
    CHECK(same(&c, &c2));

    struct meter_settle s = sample_settle(&c), s2;
    s.cost_pico = (money_pico)INT64_MAX * 1000 + 17;
    n = record_put_settle(&s, raw);
    CHECK_INT(record_view(raw, n, &v), RECORD_GOOD);
    CHECK_INT(record_unpack_settle(&v, &s2), OK);
    CHECK(uuid_equal(&s2.context.request_id, &c.request_id) && s2.cost_pico == s.cost_pico);
    CHECK_INT(s2.counts.reasoning, 21);
    CHECK_INT(s2.settled_wall_ms, s.settled_wall_ms);
    CHECK_INT(s2.outcome, METER_FINISHED);

    uint8_t packed[512];
    size_t len = 0;
    CHECK_INT(meter_context_pack(&c, packed, sizeof packed, &len), OK);
    CHECK_INT(meter_context_unpack(packed, len, &c2), OK);
    CHECK(same(&c, &c2));
    CHECK_INT(meter_context_pack(&c, packed, len - 1, &len), LIMITED);
}

/* Every single flipped bit and every cut is seen. */
static void check_damage(void)
{
    struct meter_context c = sample_context(1800000000000);
    struct meter_settle s = sample_settle(&c);
    uint8_t raw[RECORD_BYTES_MAX];
    size_t n = record_put_settle(&s, raw);
    struct record_view v;
    for (size_t bit = 0; bit < n * 8; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum record_verdict want = bit / 8 < 12 ? RECORD_BAD_HEAD : RECORD_BAD_PAYLOAD;
        CHECK_INT(record_view(raw, n, &v), want);
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < n; len++)
        CHECK_INT(record_view(raw, len, &v), RECORD_SHORT);
}

/* A newer writer adds fields behind the known ones: they are skipped. */
static void check_newer(void)
{
    struct meter_context c = sample_context(1800000000000), c2;
    uint8_t packed[512] = {0};
    size_t len = 0;
    CHECK_INT(meter_context_pack(&c, packed, sizeof packed, &len), OK);
    packed[0] = 2;
    CHECK_INT(meter_context_unpack(packed, len + 9, &c2), OK);
    packed[0] = 0;
    CHECK_INT(meter_context_unpack(packed, len, &c2), CORRUPT);
}

int main(void)
{
    check_round_trip();
    check_damage();
    check_newer();
    return check_done();
}
