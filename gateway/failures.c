#include "gateway/failures.h"

#include "base/crypto.h"
#include "base/error.h"

enum { ROWS = 1024, WAYS = 4, ADDRESS_MAX = 48, GOOD = 4096 };

struct entry {
    char address[ADDRESS_MAX];
    double level; /* failures that have not leaked away yet */
    int64_t at_ms;
};

struct failures {
    uint64_t secret[2];
    struct entry rows[ROWS][WAYS];
    uint64_t good[GOOD];
};

struct failures *failures_new(void)
{
    struct failures *f = calloc(1, sizeof *f);
    if (f)
        crypto_random(f->secret, sizeof f->secret);
    return f;
}

void failures_free(struct failures *f)
{
    if (f)
        crypto_wipe(f, sizeof *f);
    free(f);
}

/* Keyed, so that nobody can aim at another's row. */
static uint64_t hash(const struct failures *f, const char *text, size_t len)
{
    uint64_t h = f->secret[0];
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (uint8_t)text[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    h = (h ^ f->secret[1]) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 32;
}

static double level_now(const struct entry *e, int64_t per_min, int64_t now_ms)
{
    double level = e->level - (double)(now_ms - e->at_ms) * (double)per_min / 60000;
    return level > 0 ? level : 0;
}

static struct entry *row_of(struct failures *f, const char *address)
{
    return f->rows[hash(f, address, strlen(address)) % ROWS];
}

static struct entry *find(struct failures *f, const char *address)
{
    struct entry *row = row_of(f, address);
    for (int i = 0; i < WAYS; i++)
        if (strncmp(row[i].address, address, ADDRESS_MAX - 1) == 0)
            return &row[i];
    return NULL;
}

bool failures_over(struct failures *f, const char *address, int64_t per_min, int64_t now_ms,
                   int64_t *retry_ms)
{
    const struct entry *e = per_min > 0 ? find(f, address) : NULL;
    if (!e)
        return false;
    double over = level_now(e, per_min, now_ms) - (double)per_min + 1;
    if (over <= 0)
        return false;
    *retry_ms = (int64_t)(over * 60000 / (double)per_min) + 1;
    return true;
}

void failures_note(struct failures *f, const char *address, int64_t per_min, int64_t now_ms)
{
    if (per_min <= 0)
        return;
    struct entry *e = find(f, address);
    if (!e) {
        struct entry *row = row_of(f, address);
        e = row;
        for (int i = 1; i < WAYS; i++)
            if (level_now(&row[i], per_min, now_ms) < level_now(e, per_min, now_ms))
                e = &row[i];
        *e = (struct entry){.at_ms = now_ms};
        snprintf(e->address, sizeof e->address, "%s", address);
    }
    double level = level_now(e, per_min, now_ms) + 1;
    e->level = level < (double)per_min ? level : (double)per_min;
    e->at_ms = now_ms;
}

void failures_good_key(struct failures *f, const char *key, size_t len)
{
    uint64_t h = hash(f, key, len);
    f->good[h % GOOD] = h;
}

bool failures_was_good(const struct failures *f, const char *key, size_t len)
{
    uint64_t h = hash(f, key, len);
    return f->good[h % GOOD] == h;
}
