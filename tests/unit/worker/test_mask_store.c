/* runs: thread */
/* Which masks a store keeps: caps, who goes first, what is taken stays, several threads. */
#include "worker/grammar/mask_store.h"

#include <pthread.h>

#include "tests/unit/check.h"

enum { EACH = 1000, THREADS = 4 };

static struct mask_entry *entry(size_t bytes)
{
    struct mask_entry *e = calloc(1, sizeof *e);
    CHECK_FATAL(e);
    e->bytes = bytes;
    return e;
}

static void add(struct mask_shelf *f, uint64_t key)
{
    struct mask_entry *e = mask_shelf_add(f, key, entry(EACH));
    CHECK_FATAL(e);
    mask_shelf_give_back(f, &key, 1, &e);
}

static bool has(struct mask_shelf *f, uint64_t key)
{
    struct mask_entry *e = NULL;
    if (!mask_shelf_take(f, &key, 1, &e))
        return false;
    CHECK(e && e->key == key);
    mask_shelf_give_back(f, &key, 1, &e);
    return true;
}

/* The least recently used goes, unless it is taken. */
static void test_shelf(void)
{
    struct mask_store *s = mask_store_new(100 * EACH, 4 * EACH);
    struct mask_shelf *f = mask_shelf_new(s, 100);
    for (uint64_t i = 1; i <= 4; i++)
        add(f, i);
    CHECK_INT(mask_store_bytes(s), 4 * EACH);
    CHECK(has(f, 1));
    add(f, 5);
    CHECK(has(f, 1) && !has(f, 2) && has(f, 3));
    uint64_t keys[] = {4, (uint64_t)MASK_KEY_NONE, 1};
    struct mask_entry other = {.key = 7}, *held[3] = {NULL, &other, NULL};
    CHECK(mask_shelf_take(f, keys, 3, held) && held[1] == &other && held[2]->key == 1);
    for (uint64_t i = 10; i < 20; i++)
        add(f, i);
    CHECK(has(f, 4) && has(f, 1) && has(f, 19) && has(f, 18) && !has(f, 17));
    CHECK_INT(mask_store_bytes(s), 4 * EACH);
    mask_shelf_give_back(f, keys, 3, held);
    add(f, 20);
    CHECK(!has(f, 4) && !has(f, 99));
    uint64_t some[] = {19, 99};
    CHECK(!mask_shelf_take(f, some, 2, held));
    struct mask_entry *again = mask_shelf_add(f, 19, entry(EACH));
    uint64_t key = 19;
    CHECK(again && again->taken == 1);
    mask_shelf_give_back(f, &key, 1, &again);
    CHECK_INT(mask_store_bytes(s), 4 * EACH);
    mask_shelf_free(f);
    CHECK_INT(mask_store_bytes(s), 0);
    mask_store_free(s);
}

/* Of several shelves the one that was used least recently and is unused now gives up first. */
static void test_shelves(void)
{
    struct mask_store *s = mask_store_new(6 * EACH, 4 * EACH);
    struct mask_shelf *f[3];
    for (int i = 0; i < 3; i++) {
        f[i] = mask_shelf_new(s, 100);
        mask_shelf_use(f[i]);
        add(f[i], 1);
        add(f[i], 2);
    }
    CHECK(!mask_shelf_has_room(f[2]));
    add(f[2], 3); /* all are used: its own go */
    CHECK(!has(f[2], 1) && has(f[2], 3) && has(f[0], 1) && has(f[1], 1));
    mask_shelf_leave(f[1]);
    mask_shelf_leave(f[0]);
    mask_shelf_use(f[0]);
    mask_shelf_leave(f[0]);
    CHECK(mask_shelf_has_room(f[2]));
    CHECK(has(f[1], 1));
    add(f[2], 4);
    CHECK(has(f[2], 3) && has(f[1], 1) && !has(f[1], 2));
    add(f[2], 5);
    CHECK(!has(f[1], 1) && has(f[0], 1));
    add(f[2], 6); /* its own cap comes before the others' masks */
    CHECK(has(f[0], 1) && has(f[0], 2) && !has(f[2], 2) && has(f[2], 6));
    CHECK_INT(mask_store_bytes(s), 6 * EACH);
    mask_shelf_leave(f[2]);
    for (int i = 0; i < 3; i++)
        mask_shelf_free(f[i]);
    mask_store_free(s);
}

/* Many keys: chains stay short and whole. */
static void test_many(void)
{
    struct mask_store *s = mask_store_new((size_t)1 << 40, (size_t)1 << 40);
    struct mask_shelf *f = mask_shelf_new(s, 100);
    for (uint64_t i = 0; i < 5000; i++)
        add(f, i << 8 | 7);
    for (uint64_t i = 0; i < 5000; i++)
        CHECK(has(f, i << 8 | 7) && !has(f, i << 8 | 6));
    CHECK(mask_shelf_bytes(f) > 5000 * (size_t)EACH);
    mask_shelf_free(f);
    mask_store_free(s);
}

static struct mask_store *shared;
static struct mask_shelf *shelves[2];

static void *churn(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct mask_shelf *f = shelves[seed >> 40 & 1];
        uint64_t key = seed >> 45 & 31;
        struct mask_entry *e = NULL;
        mask_shelf_use(f);
        if (!mask_shelf_take(f, &key, 1, &e))
            e = mask_shelf_add(f, key, entry(EACH));
        CHECK(e && e->key == key && e->bytes == EACH);
        mask_shelf_give_back(f, &key, 1, &e);
        mask_shelf_leave(f);
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[THREADS];
    shared = mask_store_new(20 * EACH, 12 * EACH);
    shelves[0] = mask_shelf_new(shared, 1);
    shelves[1] = mask_shelf_new(shared, 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_FATAL(pthread_create(&threads[i], NULL, churn, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(mask_store_bytes(shared) <= 20 * EACH);
    mask_shelf_free(shelves[0]);
    mask_shelf_free(shelves[1]);
    CHECK_INT(mask_store_bytes(shared), 0);
    mask_store_free(shared);
}

int main(void)
{
    test_shelf();
    test_shelves();
    test_many();
    test_threads();
    return check_done();
}
