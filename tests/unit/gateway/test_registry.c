/* runs: thread */
#include <pthread.h>

#include "gateway/registry.h"
#include "tests/unit/check.h"

static struct uuid id_of(unsigned n)
{
    struct uuid id = {{0}};
    memcpy(id.bytes + 12, &n, sizeof n);
    return id;
}

static enum registry_state state_of(struct registry *r, unsigned n)
{
    int loop = -1;
    struct uuid id = id_of(n);
    return registry_get(r, &id, &loop);
}

static void set(struct registry *r, unsigned n, enum registry_state state)
{
    struct uuid id = id_of(n);
    CHECK(registry_set(r, &id, state, (int)(n % 7)) == OK);
}

static void test_life(void)
{
    struct registry *r = registry_new(4);
    struct uuid id = id_of(1);
    int loop;
    CHECK_INT(state_of(r, 1), REGISTRY_UNKNOWN);
    set(r, 1, REGISTRY_RUNNING);
    CHECK_INT(registry_get(r, &id, &loop), REGISTRY_RUNNING);
    CHECK_INT(loop, 1);
    CHECK(!registry_claim(r, &id, 2));
    set(r, 1, REGISTRY_SETTLED);
    CHECK_INT(state_of(r, 1), REGISTRY_SETTLED);
    CHECK(!registry_claim(r, &id, 2));
    registry_remove(r, &id);
    CHECK_INT(state_of(r, 1), REGISTRY_UNKNOWN);
    set(r, 2, REGISTRY_OPEN);
    id = id_of(2);
    CHECK(registry_claim(r, &id, 3));
    CHECK_INT(registry_get(r, &id, &loop), REGISTRY_RUNNING);
    CHECK_INT(loop, 3);
    id = id_of(3);
    CHECK(registry_claim(r, &id, 3)); /* unknown to us: somebody must settle it */
    registry_free(r);
}

/* The oldest settled ids are forgotten, and nothing else. */
static void test_forgetting(void)
{
    struct registry *r = registry_new(100);
    for (unsigned i = 0; i < 50; i++)
        set(r, 1000 + i, REGISTRY_RUNNING);
    for (unsigned i = 0; i < 1000; i++) {
        set(r, i, REGISTRY_SETTLED);
        set(r, i, REGISTRY_SETTLED); /* twice is once */
    }
    for (unsigned i = 0; i < 1000; i++)
        CHECK_INT(state_of(r, i), i < 900 ? REGISTRY_UNKNOWN : REGISTRY_SETTLED);
    for (unsigned i = 0; i < 50; i++)
        CHECK_INT(state_of(r, 1000 + i), REGISTRY_RUNNING);
    registry_free(r);
}

static void test_full(void)
{
    struct registry *r = registry_new(1);
    enum status st = OK;
    unsigned n = 0;
    for (; n < 100000 && st == OK; n++) {
        struct uuid id = id_of(n);
        st = registry_set(r, &id, REGISTRY_RUNNING, 0);
    }
    CHECK(st == LIMITED && n > 100);
    for (unsigned i = 0; i + 1 < n; i++)
        CHECK_INT(state_of(r, i), REGISTRY_RUNNING);
    registry_free(r);
}

static struct registry *shared;

static void *work(void *arg)
{
    unsigned first = *(unsigned *)arg;
    for (unsigned i = first; i < first + 2000; i++) {
        set(shared, i, REGISTRY_RUNNING);
        CHECK_INT(state_of(shared, i), REGISTRY_RUNNING);
        set(shared, i, REGISTRY_SETTLED);
    }
    return NULL;
}

/* Of all who claim an id, one gets it. */
static _Atomic int claimed;

static void *claim(void *arg)
{
    for (unsigned i = 0; i < 500; i++) {
        struct uuid id = id_of(i);
        claimed += registry_claim(shared, &id, 1);
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[4];
    unsigned first[4];
    shared = registry_new(512);
    for (unsigned i = 0; i < 4; i++) {
        first[i] = i * 100000;
        CHECK_FATAL(pthread_create(&threads[i], NULL, work, &first[i]) == 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    registry_free(shared);
    shared = registry_new(512);
    for (int i = 0; i < 4; i++)
        CHECK_FATAL(pthread_create(&threads[i], NULL, claim, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(claimed, 500);
    registry_free(shared);
}

int main(void)
{
    test_life();
    test_forgetting();
    test_full();
    test_threads();
    return check_done();
}
