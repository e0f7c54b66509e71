#include "worker/usage.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/usage_file.h"

static const uint32_t none = UINT32_MAX;

struct usage_table {
    int fd;
    uint8_t *map;
    size_t map_bytes;
    struct usage_slot *slots;
    uint32_t count;
    uint64_t order;

    /* FREE and ACKED slots in the order of reuse: a ring of `count`. */
    uint32_t *ring, ring_head, ring_len;
    /* Index by request id and attempt: chains through `next`. */
    uint32_t *heads, *next, head_mask;
    /* FINAL slots, and where each stands in that list. */
    uint32_t *unacked, *unacked_at, unacked_count;
};

static uint32_t hash(const uint8_t *id, uint32_t attempt)
{
    /* The end of a UUIDv7 is random; nobody but gateways choose ids. */
    uint64_t a;
    memcpy(&a, id + 8, 8);
    a = (a ^ attempt) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(a >> 32);
}

static void index_add(struct usage_table *t, uint32_t slot)
{
    uint32_t *head =
        &t->heads[hash(t->slots[slot].request_id, t->slots[slot].attempt) & t->head_mask];
    t->next[slot] = *head;
    *head = slot;
}

static void index_remove(struct usage_table *t, uint32_t slot)
{
    uint32_t *at =
        &t->heads[hash(t->slots[slot].request_id, t->slots[slot].attempt) & t->head_mask];
    while (*at != slot) {
        assert(*at != none);
        at = &t->next[*at];
    }
    *at = t->next[slot];
}

static void ring_push(struct usage_table *t, uint32_t slot)
{
    assert(t->ring_len < t->count);
    t->ring[(t->ring_head + t->ring_len++) % t->count] = slot;
}

static void unacked_add(struct usage_table *t, uint32_t slot)
{
    t->unacked_at[slot] = t->unacked_count;
    t->unacked[t->unacked_count++] = slot;
}

static void unacked_remove(struct usage_table *t, uint32_t slot)
{
    uint32_t at = t->unacked_at[slot], last = t->unacked[--t->unacked_count];
    assert(t->unacked[at] == slot);
    t->unacked[at] = last;
    t->unacked_at[last] = at;
}

static void set_state(struct usage_slot *s, enum usage_state state)
{
    atomic_store_explicit(&s->state, (uint8_t)state, memory_order_release);
}

enum status usage_check_header(const struct usage_header *h, int64_t file_bytes, const char *path,
                               struct error *err)
{
    if (memcmp(h->magic, "TGUSAGE", 8) != 0)
        return error_set(err, CORRUPT, "%s is not a usage table", path);
    if (h->version != USAGE_VERSION || h->slot_bytes != sizeof(struct usage_slot))
        return error_set(err, CORRUPT, "%s is a usage table of version %u; this worker knows %d",
                         path, h->version, USAGE_VERSION);
    uint32_t count = atomic_load(&((struct usage_header *)h)->slot_count);
    if (count == 0 || count > USAGE_SLOTS_MAX ||
        file_bytes < USAGE_HEADER_BYTES + (int64_t)count * (int64_t)sizeof(struct usage_slot))
        return error_set(err, CORRUPT, "%s: %u slots in %lld bytes", path, count,
                         (long long)file_bytes);
    return OK;
}

/* Space for the slots is allocated, not only promised: a full disk is an error here rather than
 * a SIGBUS later. */
static enum status size_file(int fd, uint32_t slots, const char *path, struct error *err)
{
    off_t bytes = USAGE_HEADER_BYTES + (off_t)slots * (off_t)sizeof(struct usage_slot);
    int why = posix_fallocate(fd, 0, bytes);
    return why == 0
               ? OK
               : error_errno(err, why, "cannot make %s %lld bytes long", path, (long long)bytes);
}

/* Writes the header of an empty file. The magic goes last, so that a file whose making was cut
 * short is made again. */
static enum status prepare_file(int fd, uint32_t slots, const char *path, struct error *err)
{
    struct usage_header h = {.version = 0};
    ssize_t got = pread(fd, &h, sizeof h, 0);
    if (got < 0)
        return error_errno(err, errno, "cannot read %s", path);
    struct stat s;
    if (fstat(fd, &s) != 0)
        return error_errno(err, errno, "cannot read %s", path);
    static const char zeros[sizeof h.magic];
    if (memcmp(h.magic, zeros, sizeof zeros) != 0) {
        enum status st = usage_check_header(&h, s.st_size, path, err);
        if (st != OK || atomic_load(&h.slot_count) >= slots)
            return st;
        st = size_file(fd, slots, path, err);
        if (st != OK)
            return st;
    } else {
        enum status st = size_file(fd, slots, path, err);
        if (st != OK)
            return st;
    }
    h.version = USAGE_VERSION;
    h.slot_bytes = sizeof(struct usage_slot);
    atomic_store(&h.slot_count, slots);
    if (pwrite(fd, (char *)&h + 8, sizeof h - 8, 8) != sizeof h - 8 ||
        pwrite(fd, "TGUSAGE", 8, 0) != 8)
        return error_errno(err, errno, "cannot write %s", path);
    return OK;
}

static enum status open_file(const char *path, uint32_t slots, int *out, struct error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "cannot open %s", path);
    enum status st = OK;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        st = error_set(err, CONFLICT, "%s is in use by another worker", path);
    if (st == OK)
        st = prepare_file(fd, slots, path, err);
    if (st != OK) {
        close(fd);
        return st;
    }
    *out = fd;
    return OK;
}

static enum status map_file(struct usage_table *t, const char *path, struct error *err)
{
    struct stat s;
    if (fstat(t->fd, &s) != 0)
        return error_errno(err, errno, "cannot read %s", path);
    t->map = mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
    if (t->map == MAP_FAILED) {
        t->map = NULL;
        return error_errno(err, errno, "cannot map %s", path);
    }
    t->map_bytes = (size_t)s.st_size;
    struct usage_header *h = (struct usage_header *)t->map;
    enum status st = usage_check_header(h, s.st_size, path, err);
    if (st != OK)
        return st;
    t->slots = (struct usage_slot *)(t->map + USAGE_HEADER_BYTES);
    t->count = atomic_load(&h->slot_count);
    for (uint32_t i = 0; i < t->count; i++)
        if (usage_slot_state(&t->slots[i]) > USAGE_ACKED)
            return error_set(err, CORRUPT, "%s: slot %u is in no known state", path, i);
    return OK;
}

static enum status make_index(struct usage_table *t)
{
    uint32_t heads = 64;
    while (heads < t->count * 2)
        heads *= 2;
    t->head_mask = heads - 1;
    t->heads = malloc(heads * sizeof *t->heads);
    t->next = calloc(t->count, sizeof *t->next);
    t->ring = calloc(t->count, sizeof *t->ring);
    t->unacked = calloc(t->count, sizeof *t->unacked);
    t->unacked_at = calloc(t->count, sizeof *t->unacked_at);
    if (!t->heads || !t->next || !t->ring || !t->unacked || !t->unacked_at)
        return NOMEM;
    memset(t->heads, 0xff, heads * sizeof *t->heads);
    return OK;
}

static int by_order(const void *a, const void *b, void *arg)
{
    const struct usage_slot *slots = arg;
    uint64_t x = slots[*(const uint32_t *)a].order, y = slots[*(const uint32_t *)b].order;
    return x < y ? -1 : x > y;
}

/* What an earlier worker left. Its RUNNING requests died with it. */
static void take_over(struct usage_table *t, int64_t wall_ms)
{
    for (uint32_t i = 0; i < t->count; i++)
        if (usage_slot_state(&t->slots[i]) == USAGE_FREE)
            ring_push(t, i);
    uint32_t acked = t->ring_len;
    for (uint32_t i = 0; i < t->count; i++) {
        struct usage_slot *s = &t->slots[i];
        enum usage_state state = usage_slot_state(s);
        if (state == USAGE_FREE)
            continue;
        if (s->order >= t->order)
            t->order = s->order + 1;
        index_add(t, i);
        if (state == USAGE_ACKED) {
            ring_push(t, i);
            continue;
        }
        if (state == USAGE_RUNNING) {
            s->outcome = WIRE__OUTCOME__OUTCOME_FAILED;
            s->finished_wall_ms = wall_ms;
            set_state(s, USAGE_FINAL);
        }
        unacked_add(t, i);
    }
    qsort_r(t->ring + acked, t->ring_len - acked, sizeof *t->ring, by_order, t->slots);
}

enum status usage_open(const char *path, uint32_t slots, int64_t wall_ms, struct usage_table **out,
                       struct error *err)
{
    assert(slots > 0 && slots <= USAGE_SLOTS_MAX);
    struct usage_table *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, NOMEM, "out of memory");
    t->fd = -1;
    enum status st = open_file(path, slots, &t->fd, err);
    if (st == OK)
        st = map_file(t, path, err);
    if (st == OK && make_index(t) != OK)
        st = error_set(err, NOMEM, "out of memory for %u usage slots", t->count);
    if (st != OK) {
        usage_close(t);
        return st;
    }
    take_over(t, wall_ms);
    *out = t;
    return OK;
}

void usage_close(struct usage_table *t)
{
    if (!t)
        return;
    if (t->map)
        munmap(t->map, t->map_bytes);
    if (t->fd >= 0)
        close(t->fd);
    free(t->heads);
    free(t->next);
    free(t->ring);
    free(t->unacked);
    free(t->unacked_at);
    free(t);
}

uint32_t usage_slots(const struct usage_table *t)
{
    return t->count;
}

bool usage_find(const struct usage_table *t, const uint8_t *request_id, uint32_t attempt,
                uint32_t *slot)
{
    uint32_t i = t->heads[hash(request_id, attempt) & t->head_mask];
    for (; i != none; i = t->next[i]) {
        const struct usage_slot *s = &t->slots[i];
        if (s->attempt == attempt && memcmp(s->request_id, request_id, 16) == 0) {
            *slot = i;
            return true;
        }
    }
    return false;
}

static void copy_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    memset(out, 0, size);
    memcpy(out, text, len);
}

enum status usage_begin(struct usage_table *t, const struct usage_begin *b, uint32_t *slot)
{
    uint32_t i;
    if (usage_find(t, b->request_id, b->attempt, &i))
        return CONFLICT;
    if (t->ring_len == 0)
        return LIMITED;
    assert(b->billing_len <= USAGE_BILLING_MAX);
    i = t->ring[t->ring_head];
    t->ring_head = (t->ring_head + 1) % t->count;
    t->ring_len--;
    struct usage_slot *s = &t->slots[i];
    if (usage_slot_state(s) == USAGE_ACKED)
        index_remove(t, i);
    /* FREE while its fields change; the fence keeps them behind that store. */
    set_state(s, USAGE_FREE);
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(s->request_id, b->request_id, 16);
    s->attempt = b->attempt;
    s->outcome = 0;
    atomic_store_explicit(&s->input, 0, memory_order_relaxed);
    atomic_store_explicit(&s->output, 0, memory_order_relaxed);
    s->begun_wall_ms = b->wall_ms;
    s->finished_wall_ms = 0;
    s->order = t->order++;
    copy_text(s->gateway_id, sizeof s->gateway_id, b->gateway_id);
    copy_text(s->model, sizeof s->model, b->model);
    if (b->billing_len)
        memcpy(s->billing, b->billing, b->billing_len);
    s->billing_len = (uint16_t)b->billing_len;
    set_state(s, USAGE_RUNNING);
    index_add(t, i);
    *slot = i;
    return OK;
}

void usage_count(struct usage_table *t, uint32_t slot, const struct counts *c)
{
    struct usage_slot *s = &t->slots[slot];
    assert(usage_slot_state(s) == USAGE_RUNNING);
    uint64_t input = (uint64_t)c->prompt << 32 | c->cached;
    uint64_t output = (uint64_t)c->completion << 32 | c->reasoning;
    if (atomic_load_explicit(&s->input, memory_order_relaxed) != input)
        atomic_store_explicit(&s->input, input, memory_order_release);
    atomic_store_explicit(&s->output, output, memory_order_release);
}

void usage_finish(struct usage_table *t, uint32_t slot, Wire__Outcome outcome, int64_t wall_ms)
{
    struct usage_slot *s = &t->slots[slot];
    assert(usage_slot_state(s) == USAGE_RUNNING);
    s->outcome = (uint8_t)outcome;
    s->finished_wall_ms = wall_ms;
    set_state(s, USAGE_FINAL);
    unacked_add(t, slot);
}

void usage_undo(struct usage_table *t, uint32_t slot)
{
    struct usage_slot *s = &t->slots[slot];
    assert(usage_slot_state(s) == USAGE_RUNNING);
    index_remove(t, slot);
    set_state(s, USAGE_FREE);
    ring_push(t, slot);
}

enum status usage_ack(struct usage_table *t, const uint8_t *request_id, uint32_t attempt,
                      uint32_t *slot)
{
    uint32_t i;
    if (!usage_find(t, request_id, attempt, &i))
        return NOT_FOUND;
    struct usage_slot *s = &t->slots[i];
    if (slot)
        *slot = i;
    switch (usage_slot_state(s)) {
    case USAGE_ACKED:
        return OK;
    case USAGE_FINAL:
        break;
    default:
        return CONFLICT;
    }
    s->order = t->order++;
    set_state(s, USAGE_ACKED);
    unacked_remove(t, i);
    ring_push(t, i);
    return OK;
}

void usage_slot_copy(const struct usage_slot *s, struct usage_record *out)
{
    memcpy(out->request_id, s->request_id, 16);
    out->attempt = s->attempt;
    copy_text(out->model, sizeof out->model, s->model);
    copy_text(out->gateway_id, sizeof out->gateway_id, s->gateway_id);
    out->billing_len =
        s->billing_len <= USAGE_BILLING_MAX ? s->billing_len : (size_t)USAGE_BILLING_MAX;
    memcpy(out->billing, s->billing, out->billing_len);
    uint64_t input = atomic_load(&((struct usage_slot *)s)->input);
    uint64_t output = atomic_load(&((struct usage_slot *)s)->output);
    out->counts = (struct counts){.prompt = (uint32_t)(input >> 32),
                                  .cached = (uint32_t)input,
                                  .completion = (uint32_t)(output >> 32),
                                  .reasoning = (uint32_t)output};
    out->outcome = (Wire__Outcome)s->outcome;
    out->begun_wall_ms = s->begun_wall_ms;
    out->finished_wall_ms = s->finished_wall_ms;
}

void usage_read(const struct usage_table *t, uint32_t slot, struct usage_record *out)
{
    usage_slot_copy(&t->slots[slot], out);
}

bool usage_is_final(const struct usage_table *t, uint32_t slot)
{
    return usage_slot_state(&t->slots[slot]) == USAGE_FINAL;
}

const char *usage_gateway(const struct usage_table *t, uint32_t slot)
{
    return t->slots[slot].gateway_id;
}

uint32_t usage_unacked_count(const struct usage_table *t)
{
    return t->unacked_count;
}

uint32_t usage_unacked(const struct usage_table *t, uint32_t i)
{
    assert(i < t->unacked_count);
    return t->unacked[i];
}
