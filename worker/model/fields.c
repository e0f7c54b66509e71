#include "worker/model/fields.h"

static const struct json *get(const struct fields *f, const char *name)
{
    const struct json *v = json_get(f->object, name);
    return v && !json_is_null(v) ? v : NULL;
}

bool fields_has(const struct fields *f, const char *name)
{
    return get(f, name) != NULL;
}

void fields_fail(struct fields *f, const char *name, const char *why)
{
    if (f->status == OK)
        f->status = error_set(f->err, INVALID, "%s: %s%s %s", f->path, f->prefix, name, why);
}

int fields_int_or(struct fields *f, const char *name, int least, int most, int missing)
{
    return fields_has(f, name) ? fields_int(f, name, least, most) : missing;
}

int fields_int(struct fields *f, const char *name, int least, int most)
{
    const struct json *v = get(f, name);
    int64_t n = least;
    if (!v) {
        fields_fail(f, name, "is missing");
    } else if (!json_int(v, least, most, &n)) {
        char why[96];
        snprintf(why, sizeof why, "is not a whole number between %d and %d", least, most);
        fields_fail(f, name, why);
        n = least;
    }
    return (int)n;
}

double fields_number_or(struct fields *f, const char *name, double least, double most,
                        double missing)
{
    return fields_has(f, name) ? fields_number(f, name, least, most) : missing;
}

double fields_number(struct fields *f, const char *name, double least, double most)
{
    const struct json *v = get(f, name);
    if (!v) {
        fields_fail(f, name, "is missing");
        return least;
    }
    double n = json_is_number(v) ? json_number(v) : least - 1;
    if (!(n >= least && n <= most)) {
        char why[96];
        snprintf(why, sizeof why, "is not a number between %g and %g", least, most);
        fields_fail(f, name, why);
        return least;
    }
    return n;
}

bool fields_bool_or(struct fields *f, const char *name, bool missing)
{
    const struct json *v = get(f, name);
    if (!v)
        return missing;
    if (!json_is_bool(v))
        fields_fail(f, name, "is not true or false");
    return json_bool(v);
}

const char *fields_text(const struct fields *f, const char *name)
{
    const struct json *v = get(f, name);
    return v ? json_string(v) : NULL;
}

void fields_must_be(struct fields *f, const char *name, const char *text, bool optional)
{
    if (!fields_has(f, name)) {
        if (!optional)
            fields_fail(f, name, "is missing");
        return;
    }
    const char *is = fields_text(f, name);
    if (is && strcmp(is, text) == 0)
        return;
    char why[200];
    snprintf(why, sizeof why, "is %.60s; only \"%.60s\" is supported", is ? is : "not a string",
             text);
    fields_fail(f, name, why);
}

void fields_must_be_off(struct fields *f, const char *name)
{
    if (fields_bool_or(f, name, false))
        fields_fail(f, name, "is true; only false is supported");
}

void fields_must_divide(struct fields *f, const char *name, int value, int unit)
{
    if (value % unit == 0)
        return;
    char why[96];
    snprintf(why, sizeof why, "is %d; only multiples of %d are supported", value, unit);
    fields_fail(f, name, why);
}
