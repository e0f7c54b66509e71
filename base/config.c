#include "base/config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config_value.h"
#include "base/crypto.h"

enum { FILE_BYTES_MAX = 1 << 20 };

const char *const config_sections[] = {"common", "gateway", "worker", "billing", "admin", NULL};

struct parse {
    const char *path;
    const struct setting *table;
    size_t count;
    const char *const *sections;
    char *settings;
    int *lines; /* of each setting; 0: not given */
    int line;
    char section[64]; /* empty before the first one */
    bool ours;        /* the section is in the table */
    struct error *err;
};

/* A piece of the file. */
struct span {
    const char *text;
    size_t len;
};

static bool space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(const char *start, const char *end)
{
    while (start < end && space(*start))
        start++;
    while (end > start && space(end[-1]))
        end--;
    return (struct span){start, (size_t)(end - start)};
}

static bool span_is(struct span s, const char *text)
{
    return strlen(text) == s.len && memcmp(s.text, text, s.len) == 0;
}

static bool in_table(const struct parse *p, const char *section)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->table[i].section, section) == 0)
            return true;
    return false;
}

static enum status open_section(struct parse *p, struct span line)
{
    if (line.text[line.len - 1] != ']')
        return error_set(p->err, INVALID, "%s:%d: a section looks like [name]", p->path, p->line);
    struct span name = trim(line.text + 1, line.text + line.len - 1);
    for (int i = 0; p->sections[i]; i++)
        if (span_is(name, p->sections[i]) && name.len < sizeof p->section) {
            memcpy(p->section, name.text, name.len);
            p->section[name.len] = 0;
            p->ours = in_table(p, p->section);
            return OK;
        }
    return error_set(p->err, INVALID, "%s:%d: there is no section [%.*s]", p->path, p->line,
                     (int)(name.len < 64 ? name.len : 64), name.text);
}

static const struct setting *find(const struct parse *p, struct span name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->table[i].section, p->section) == 0 && span_is(name, p->table[i].name))
            return &p->table[i];
    return NULL;
}

static enum status set_value(struct parse *p, struct span name, struct span value)
{
    if (!p->section[0])
        return error_set(p->err, INVALID, "%s:%d: a setting in front of the first [section]",
                         p->path, p->line);
    if (!p->ours)
        return OK;
    int shown = (int)(name.len < 64 ? name.len : 64);
    const struct setting *s = find(p, name);
    if (!s)
        return error_set(p->err, INVALID, "%s:%d: [%s] has no setting %.*s", p->path, p->line,
                         p->section, shown, name.text);
    int *line = &p->lines[s - p->table];
    if (*line)
        return error_set(p->err, INVALID, "%s:%d: %s is given twice, first in line %d", p->path,
                         p->line, s->name, *line);
    *line = p->line;
    enum status st = config_value_set(s, value.text, value.len, p->settings, p->err);
    if (st != OK)
        error_prefix(p->err, "%s:%d: %s", p->path, p->line, s->name);
    return st;
}

static enum status parse_line(struct parse *p, const char *start, const char *end)
{
    struct span line = trim(start, end);
    if (line.len == 0 || line.text[0] == '#')
        return OK;
    for (size_t i = 0; i < line.len; i++)
        if (((unsigned char)line.text[i] < 0x20 && line.text[i] != '\t') || line.text[i] == 0x7f)
            return error_set(p->err, INVALID, "%s:%d: a control character in column %zu", p->path,
                             p->line, (size_t)(line.text - start) + i + 1);
    if (line.text[0] == '[')
        return open_section(p, line);
    const char *equals = memchr(line.text, '=', line.len);
    if (!equals || equals == line.text)
        return error_set(p->err, INVALID, "%s:%d: a setting looks like name = value", p->path,
                         p->line);
    return set_value(p, trim(line.text, equals), trim(equals + 1, line.text + line.len));
}

static enum status parse_text(struct parse *p, const char *text, size_t len)
{
    const char *end = text + len;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return error_set(p->err, INVALID, "%s:1: a byte order mark in front of the text", p->path);
    while (text < end) {
        const char *lf = memchr(text, '\n', (size_t)(end - text));
        const char *stop = lf ? lf : end;
        p->line++;
        enum status st = parse_line(p, text, stop);
        if (st != OK)
            return st;
        text = lf ? lf + 1 : end;
    }
    return OK;
}

static enum status set_defaults(struct parse *p)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct setting *s = &p->table[i];
        if (p->lines[i])
            continue;
        if (!s->default_text)
            return error_set(p->err, INVALID, "%s: [%s] %s must be set", p->path, s->section,
                             s->name);
        enum status st =
            config_value_set(s, s->default_text, strlen(s->default_text), p->settings, p->err);
        if (st != OK) {
            error_prefix(p->err, "default of [%s] %s", s->section, s->name);
            return st;
        }
    }
    return OK;
}

enum status config_parse(const char *name, const char *text, size_t len,
                         const struct config_table *table, void *settings, struct error *err)
{
    struct parse p = {.path = name,
                      .table = table->settings,
                      .count = table->count,
                      .sections = table->sections,
                      .settings = settings,
                      .err = err};
    p.lines = calloc(table->count + 1, sizeof *p.lines);
    if (!p.lines)
        return error_set(err, NOMEM, "out of memory");
    enum status st = parse_text(&p, text, len);
    if (st == OK)
        st = set_defaults(&p);
    if (st != OK)
        config_done(table->settings, table->count, settings);
    free(p.lines);
    return st;
}

static enum status read_all(int fd, const char *path, char *text, size_t *len, struct error *err)
{
    *len = 0;
    for (;;) {
        ssize_t n = read(fd, text + *len, FILE_BYTES_MAX + 1 - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "cannot read %s", path);
        *len += (size_t)n;
        if (*len > FILE_BYTES_MAX)
            return error_set(err, LIMITED, "%s is larger than 1 MiB", path);
        if (n == 0)
            return OK;
    }
}

enum status config_load(const char *path, const struct setting *table, size_t count,
                        const char *const *sections, void *settings, struct error *err)
{
    struct config_table all = {table, count, sections};
    if (!path)
        return config_parse("settings", "", 0, &all, settings, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    char *text = malloc(FILE_BYTES_MAX + 1);
    size_t len = 0;
    enum status st =
        text ? read_all(fd, path, text, &len, err) : error_set(err, NOMEM, "out of memory");
    if (st == OK)
        st = config_parse(path, text, len, &all, settings, err);
    if (text)
        crypto_wipe(text, len); /* it may hold secrets */
    free(text);
    close(fd);
    return st;
}

void config_done(const struct setting *table, size_t count, void *settings)
{
    for (size_t i = 0; i < count; i++)
        config_value_clear(&table[i], settings);
}

enum status config_check_reload(const struct setting *table, size_t count, const void *old,
                                const void *next, struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!table[i].reloadable && !config_value_equal(&table[i], old, next))
            return error_set(err, CONFLICT, "[%s] %s cannot change without a restart",
                             table[i].section, table[i].name);
    return OK;
}

enum status config_describe(const struct setting *table, size_t count, struct buf *out)
{
    enum status st = buf_adds(out, "| section | setting | type | default | bounds | reload | "
                                   "meaning |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < count && st == OK; i++)
        st = config_value_describe(&table[i], out);
    return st;
}
