#include "admin/report.h"

#include "tests/unit/check.h"

static struct report *sample(void)
{
    struct report *r = report_new();
    CHECK_FATAL(r);
    report_row(r);
    report_text(r, "name", "Ünï");
    report_int(r, "tokens_used", 7);
    report_text(r, "id", "hidden");
    report_hide(r);
    report_text(r, "id_pico", "json only");
    report_hide_all(r);
    report_bool(r, "live", true);
    report_row(r);
    report_text(r, "name", "a\"b\x1b[31m");
    report_int(r, "tokens_used", 123456789012);
    report_text(r, "id", NULL);
    report_hide(r);
    report_bool(r, "live", false);
    return r;
}

static void check_printed(void (*print)(const struct report *, FILE *), const char *want)
{
    char *text = NULL;
    size_t len = 0;
    struct report *r = sample();
    FILE *f = open_memstream(&text, &len);
    CHECK_FATAL(f);
    print(r, f);
    fclose(f);
    CHECK_STR(text, want);
    free(text);
    report_free(r);
}

static void check_json(const struct report *r, bool single, const char *want)
{
    struct buf out;
    buf_init(&out, 10000);
    CHECK_INT(report_write_json(r, single, &out), OK);
    CHECK_STR(buf_cstr(&out), want);
    buf_done(&out);
}

int main(void)
{
    check_printed(report_print_table, "NAME       TOKENS USED  LIVE\n"
                                      "Ünï                  7  yes\n"
                                      "a\"b?[31m  123456789012  no\n");
    check_printed(report_print_fields, "name         Ünï\n"
                                       "tokens used  7\n"
                                       "id           hidden\n"
                                       "live         yes\n"
                                       "\n"
                                       "name         a\"b?[31m\n"
                                       "tokens used  123456789012\n"
                                       "id           -\n"
                                       "live         no\n");
    struct report *r = sample();
    check_json(r, true,
               "{\"name\": \"Ünï\", \"tokens_used\": 7, \"id\": \"hidden\", \"id_pico\": \"json "
               "only\", \"live\": true}");
    check_json(r, false,
               "[{\"name\": \"Ünï\", \"tokens_used\": 7, \"id\": \"hidden\", \"id_pico\": \"json "
               "only\", \"live\": true},\n "
               "{\"name\": \"a\\\"b\\u001b[31m\", \"tokens_used\": 123456789012, \"id\": null, "
               "\"live\": false}]");
    CHECK_INT(report_rows(r), 2);
    struct buf small;
    buf_init(&small, 10);
    CHECK_INT(report_write_json(r, true, &small), LIMITED);
    buf_done(&small);
    report_free(r);
    struct report *none = report_new();
    CHECK_FATAL(none);
    check_json(none, false, "[]");
    check_json(none, true, "{}");
    report_free(none);
    report_free(NULL);
    return check_done();
}
