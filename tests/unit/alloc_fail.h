/*
 * Makes the Nth allocation from now on fail, once. Include in one file of a test program: it
 * defines malloc, calloc, realloc and free. Under a sanitizer, which brings its own, nothing
 * ever fails and alloc_failed() is false at once, so that loops over N end. alloc_live counts
 * what has not been freed (one thread only).
 *
 *     for (int n = 1;; n++) {
 *         alloc_fail_after(n);
 *         ... call; it must fail cleanly, or succeed when alloc_failed() is false
 *         if (!alloc_failed())
 *             break;
 *     }
 */
#ifndef TESTS_UNIT_ALLOC_FAIL_H
#define TESTS_UNIT_ALLOC_FAIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ALLOC_FAIL_OFF
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALLOC_FAIL_OFF
#endif

static int alloc_left; /* allocations until the one that fails; 0: none will */
static bool alloc_hit;
static long alloc_live;

static inline void alloc_fail_after(int n)
{
    alloc_left = n;
    alloc_hit = false;
}

/* Whether the failure came; switches it off. */
static inline bool alloc_failed(void)
{
    alloc_left = 0;
    return alloc_hit;
}

#ifndef ALLOC_FAIL_OFF
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void __libc_free(void *p);

static bool alloc_refused(void)
{
    if (alloc_left == 0 || --alloc_left > 0)
        return false;
    alloc_hit = true;
    errno = ENOMEM;
    return true;
}

static void *alloc_count(void *p)
{
    alloc_live += p != NULL;
    return p;
}

void *malloc(size_t size)
{
    return alloc_refused() ? NULL : alloc_count(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return alloc_refused() ? NULL : alloc_count(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    if (alloc_refused())
        return NULL;
    return old ? __libc_realloc(old, size) : alloc_count(__libc_malloc(size));
}

void free(void *p)
{
    alloc_live -= p != NULL;
    __libc_free(p);
}
#endif

#endif
