#include "base/config_peek.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>

#include "base/crypto.h"

/* The text without space around it, in place. */
static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = 0;
    return text;
}

/* Splits "[name]"; NULL: no section line. */
static const char *section_of(char *line)
{
    size_t len = strlen(line);
    if (len < 2 || line[0] != '[' || line[len - 1] != ']')
        return NULL;
    line[len - 1] = 0;
    return trim(line + 1);
}

static const char *value_of(char *line, const char *name)
{
    char *equals = strchr(line, '=');
    if (line[0] == '#' || !equals)
        return NULL;
    *equals = 0;
    return strcmp(trim(line), name) == 0 ? trim(equals + 1) : NULL;
}

enum status config_peek(const char *path, const char *section, const char *name, char *out,
                        size_t size, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return error_errno(err, errno, "cannot open %s", path);
    char line[8192];
    bool inside = false;
    enum status st = NOT_FOUND;
    while (st == NOT_FOUND && fgets(line, sizeof line, f)) {
        char *text = trim(line);
        const char *opened = section_of(text), *value = NULL;
        if (opened)
            inside = strcmp(opened, section) == 0;
        else if (inside)
            value = value_of(text, name);
        if (value && strlen(value) >= size)
            st = error_set(err, LIMITED, "%s: [%s] %s is too long", path, section, name);
        else if (value) {
            snprintf(out, size, "%s", value);
            st = OK;
        }
    }
    fclose(f);
    crypto_wipe(line, sizeof line); /* it may hold a secret */
    return st;
}
