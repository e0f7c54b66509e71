#include "admin/report.h"

#include <assert.h>

#include "base/arena.h"
#include "base/json.h"

enum { REPORT_BYTES_MAX = 256 << 20, COLUMNS_MAX = 32 };

struct cell {
    const char *name, *shown, *json;
    bool right, hidden, json_only;
    struct cell *next;
};

struct row {
    struct cell *first, *last;
    struct row *next;
};

struct report {
    struct arena *arena;
    struct row *first, *last;
    int rows;
    bool failed; /* out of memory */
};

struct report *report_new(void)
{
    struct report *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->arena = arena_new(REPORT_BYTES_MAX);
    if (!r->arena) {
        free(r);
        return NULL;
    }
    return r;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    arena_free(r->arena);
    free(r);
}

int report_rows(const struct report *r)
{
    return r->rows;
}

void report_row(struct report *r)
{
    struct row *row = arena_zalloc(r->arena, sizeof *row);
    if (!row) {
        r->failed = true;
        return;
    }
    if (r->last)
        r->last->next = row;
    else
        r->first = row;
    r->last = row;
    r->rows++;
}

static struct cell *add(struct report *r, const char *name, const char *shown, const char *json)
{
    static struct cell lost; /* what is set on it is never read */
    assert(r->last || r->failed);
    struct cell *c = r->failed ? NULL : arena_zalloc(r->arena, sizeof *c);
    if (c) {
        c->name = arena_strdup(r->arena, name);
        c->shown = arena_strdup(r->arena, shown);
        c->json = arena_strdup(r->arena, json);
    }
    if (!c || !c->name || !c->shown || !c->json) {
        r->failed = true;
        return &lost;
    }
    if (r->last->last)
        r->last->last->next = c;
    else
        r->last->first = c;
    r->last->last = c;
    return c;
}

static struct cell *add_text(struct report *r, const char *name, const char *value)
{
    if (!value)
        return add(r, name, "-", "null");
    struct buf json;
    buf_init(&json, REPORT_BYTES_MAX);
    const char *text = NULL;
    if (json_put_string(&json, value, strlen(value)) == OK)
        text = buf_cstr(&json);
    if (!text)
        r->failed = true;
    struct cell *c = add(r, name, value, text ? text : "");
    buf_done(&json);
    return c;
}

void report_text(struct report *r, const char *name, const char *value)
{
    add_text(r, name, value);
}

void report_amount(struct report *r, const char *name, const char *value)
{
    add_text(r, name, value)->right = true;
}

void report_int(struct report *r, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add(r, name, text, text)->right = true;
}

void report_bool(struct report *r, const char *name, bool value)
{
    add(r, name, value ? "yes" : "no", value ? "true" : "false");
}

void report_json(struct report *r, const char *name, const char *json, const char *shown)
{
    add(r, name, shown, json);
}

void report_hide(struct report *r)
{
    if (!r->failed)
        r->last->last->hidden = true;
}

void report_hide_all(struct report *r)
{
    if (!r->failed)
        r->last->last->hidden = r->last->last->json_only = true;
}

/* Columns on the screen that a text takes: its characters, near enough. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* Control characters of stored values stay off the terminal. */
static void print_clean(FILE *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        fputc(c < 0x20 || c == 0x7f ? '?' : c, out);
    }
}

static void pad(FILE *out, int n)
{
    for (; n > 0; n--)
        fputc(' ', out);
}

static void print_heading(FILE *out, const char *name)
{
    for (; *name; name++)
        fputc(*name == '_' ? ' ' : *name >= 'a' && *name <= 'z' ? *name - 32 : *name, out);
}

struct layout {
    int widths[COLUMNS_MAX];
    bool right[COLUMNS_MAX]; /* a column with a number in it is aligned to the right */
};

static int measure(const struct report *r, struct layout *l)
{
    int columns = 0;
    for (const struct row *row = r->first; row; row = row->next) {
        columns = 0;
        for (const struct cell *c = row->first; c && columns < COLUMNS_MAX; c = c->next) {
            if (c->hidden)
                continue;
            int shown = width_of(c->shown), name = width_of(c->name);
            l->right[columns] |= c->right;
            int *width = &l->widths[columns++];
            *width = shown > *width ? shown : *width;
            *width = name > *width ? name : *width;
        }
    }
    return columns;
}

static void print_row(FILE *out, const struct row *row, const struct layout *l, bool heading)
{
    int column = 0, skipped = 0; /* padding is printed when something follows it */
    for (const struct cell *c = row->first; c && column < COLUMNS_MAX; c = c->next) {
        if (c->hidden)
            continue;
        bool right = l->right[column];
        int gap = l->widths[column++] - width_of(heading ? c->name : c->shown);
        pad(out, skipped + (right ? gap : 0));
        if (heading)
            print_heading(out, c->name);
        else
            print_clean(out, c->shown);
        skipped = 2 + (right ? 0 : gap);
    }
    fputc('\n', out);
}

void report_print_table(const struct report *r, FILE *out)
{
    struct layout l = {0};
    if (!r->first || !measure(r, &l)) {
        fputs("(none)\n", out);
        return;
    }
    print_row(out, r->first, &l, true);
    for (const struct row *row = r->first; row; row = row->next)
        print_row(out, row, &l, false);
}

static void print_field(FILE *out, const struct cell *c, int width)
{
    for (const char *p = c->name; *p; p++)
        fputc(*p == '_' ? ' ' : *p, out);
    pad(out, width - width_of(c->name) + 2);
    print_clean(out, c->shown);
    fputc('\n', out);
}

void report_print_fields(const struct report *r, FILE *out)
{
    int width = 0;
    for (const struct row *row = r->first; row; row = row->next)
        for (const struct cell *c = row->first; c; c = c->next)
            if (!c->json_only && width_of(c->name) > width)
                width = width_of(c->name);
    for (const struct row *row = r->first; row; row = row->next) {
        for (const struct cell *c = row->first; c; c = c->next)
            if (!c->json_only)
                print_field(out, c, width);
        if (row->next)
            fputc('\n', out);
    }
}

static enum status write_row(const struct row *row, struct buf *out)
{
    enum status st = buf_adds(out, "{");
    for (const struct cell *c = row ? row->first : NULL; c && st == OK; c = c->next)
        st = buf_addf(out, "\"%s\": %s%s", c->name, c->json, c->next ? ", " : "");
    return st == OK ? buf_adds(out, "}") : st;
}

enum status report_write_json(const struct report *r, bool single, struct buf *out)
{
    if (r->failed)
        return NOMEM;
    if (single)
        return write_row(r->first, out);
    enum status st = buf_adds(out, "[");
    for (const struct row *row = r->first; row && st == OK; row = row->next) {
        st = write_row(row, out);
        if (st == OK && row->next)
            st = buf_adds(out, ",\n ");
    }
    return st == OK ? buf_adds(out, "]") : st;
}
