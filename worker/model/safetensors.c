#include "worker/model/safetensors.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/json.h"

enum {
    HEADER_BYTES_MAX = 100 << 20,
    JSON_NODES_MAX = 8 << 20,
    SHARDS_MAX = 1024,
    ARENA_BYTES_MAX = 512 << 20,
};

struct mapping {
    const uint8_t *data;
    size_t bytes;
    const char *path; /* in the arena */
};

struct safetensors {
    struct arena *arena; /* names and paths */
    const char *path;    /* of the file, or of the index */
    struct mapping *maps;
    int map_count;
    struct tensor *tensors; /* sorted by name */
    size_t count, size;
};

static const struct {
    const char *name;
    enum dtype dtype;
    size_t bytes;
} dtypes[] = {
    {"F32", DTYPE_F32, 4},         {"F16", DTYPE_F16, 2},       {"BF16", DTYPE_BF16, 2},
    {"F8_E4M3", DTYPE_F8_E4M3, 1}, {"F8_E5M2", DTYPE_OTHER, 1}, {"BOOL", DTYPE_OTHER, 1},
    {"U8", DTYPE_OTHER, 1},        {"I8", DTYPE_OTHER, 1},      {"U16", DTYPE_OTHER, 2},
    {"I16", DTYPE_OTHER, 2},       {"U32", DTYPE_OTHER, 4},     {"I32", DTYPE_OTHER, 4},
    {"U64", DTYPE_OTHER, 8},       {"I64", DTYPE_OTHER, 8},     {"F64", DTYPE_OTHER, 8},
};
enum { DTYPE_COUNT = sizeof dtypes / sizeof *dtypes };

const char *dtype_name(enum dtype dtype)
{
    return dtype == DTYPE_OTHER ? "another type" : dtypes[dtype].name;
}

size_t dtype_bytes(enum dtype dtype)
{
    assert(dtype != DTYPE_OTHER);
    return dtypes[dtype].bytes;
}

static const struct json_limits header_limits = {
    .depth = 8, .nodes = JSON_NODES_MAX, .bytes = HEADER_BYTES_MAX};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static enum status add_tensor(struct safetensors *s, const struct tensor *t)
{
    if (s->count == s->size) {
        size_t size = s->size ? s->size * 2 : 256;
        struct tensor *grown = realloc(s->tensors, size * sizeof *grown);
        if (!grown)
            return NOMEM;
        s->tensors = grown;
        s->size = size;
    }
    s->tensors[s->count++] = *t;
    return OK;
}

static enum status read_dtype(const struct json *v, struct tensor *t, size_t *element_bytes,
                              struct error *err)
{
    const char *text = json_string(v);
    for (int i = 0; text && i < DTYPE_COUNT; i++)
        if (strcmp(text, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].dtype;
            *element_bytes = dtypes[i].bytes;
            return OK;
        }
    return error_set(err, INVALID, "%s: tensor %s: unknown dtype %s", t->file, t->name,
                     text ? text : "(not a string)");
}

static enum status read_shape(const struct json *v, struct tensor *t, size_t *elements,
                              struct error *err)
{
    if (!json_is_array(v) || json_count(v) > TENSOR_MAX_DIMS)
        return error_set(err, INVALID, "%s: tensor %s: shape is not an array of at most %d numbers",
                         t->file, t->name, TENSOR_MAX_DIMS);
    size_t product = 1;
    for (const struct json *d = json_first(v); d; d = json_next(d)) {
        int64_t n;
        if (!json_int(d, 0, INT64_C(1) << 40, &n) ||
            __builtin_mul_overflow(product, (size_t)n, &product))
            return error_set(err, INVALID, "%s: tensor %s: impossible shape", t->file, t->name);
        t->shape[t->dims++] = n;
    }
    *elements = product;
    return OK;
}

static enum status read_offsets(const struct json *v, struct tensor *t, size_t data_bytes,
                                size_t *begin, struct error *err)
{
    int64_t from, to;
    const struct json *first = json_is_array(v) && json_count(v) == 2 ? json_first(v) : NULL;
    if (!first || !json_int(first, 0, INT64_C(1) << 53, &from) ||
        !json_int(json_next(first), 0, INT64_C(1) << 53, &to) || from > to)
        return error_set(err, INVALID, "%s: tensor %s: data_offsets is not [begin, end]", t->file,
                         t->name);
    if ((size_t)to > data_bytes)
        return error_set(err, INVALID,
                         "%s: tensor %s: ends at byte %lld of the data, the file has %zu", t->file,
                         t->name, (long long)to, data_bytes);
    *begin = (size_t)from;
    t->bytes = (size_t)(to - from);
    return OK;
}

static enum status read_tensor(const struct json *v, struct tensor *t, const uint8_t *data,
                               size_t data_bytes, struct error *err)
{
    if (!json_is_object(v) || json_count(v) != 3)
        return error_set(err, INVALID,
                         "%s: tensor %s: needs dtype, shape and data_offsets, nothing else",
                         t->file, t->name);
    size_t element_bytes = 0, elements = 0, begin = 0, bytes;
    enum status st = read_dtype(json_get(v, "dtype"), t, &element_bytes, err);
    if (st == OK)
        st = read_shape(json_get(v, "shape"), t, &elements, err);
    if (st == OK)
        st = read_offsets(json_get(v, "data_offsets"), t, data_bytes, &begin, err);
    if (st != OK)
        return st;
    if (__builtin_mul_overflow(elements, element_bytes, &bytes) || bytes != t->bytes)
        return error_set(err, INVALID,
                         "%s: tensor %s: its shape and dtype do not make the %zu bytes of its "
                         "data_offsets",
                         t->file, t->name, t->bytes);
    t->data = data + begin;
    return OK;
}

/* The tensors [first, count) are one file's: sorted by place, each must begin where the one
 * before ended, and the last must end with the file. */
static enum status check_cover(struct safetensors *s, size_t first, const uint8_t *data,
                               size_t data_bytes, struct error *err)
{
    struct tensor *t = s->tensors + first;
    size_t n = s->count - first;
    if (n)
        qsort(t, n, sizeof *t, compare_places);
    const uint8_t *at = data;
    for (size_t i = 0; i < n; i++) {
        if (t[i].data != at)
            return error_set(err, INVALID, "%s: tensor %s: %s", t[i].file, t[i].name,
                             t[i].data < at ? "overlaps another" : "leaves a hole before it");
        at += t[i].bytes;
    }
    if (n && at != data + data_bytes)
        return error_set(err, INVALID, "%s: %zu bytes behind the last tensor", t->file,
                         (size_t)(data + data_bytes - at));
    return OK;
}

static enum status parse_header(struct safetensors *s, const struct mapping *m, struct error *err)
{
    if (m->bytes < 8)
        return error_set(err, INVALID, "%s: shorter than its header", m->path);
    uint64_t header = 0;
    memcpy(&header, m->data, 8);
    header = le64toh(header);
    if (header > HEADER_BYTES_MAX || header > m->bytes - 8)
        return error_set(err, INVALID, "%s: says its header has %llu bytes, the file has %zu",
                         m->path, (unsigned long long)header, m->bytes);
    struct json *root = NULL;
    enum status st =
        json_parse((const char *)m->data + 8, (size_t)header, &header_limits, &root, err);
    if (st != OK) {
        error_prefix(err, "%s: header", m->path);
        return st;
    }
    const uint8_t *data = m->data + 8 + header;
    size_t data_bytes = m->bytes - 8 - (size_t)header, first = s->count;
    if (!json_is_object(root))
        st = error_set(err, INVALID, "%s: the header is not an object", m->path);
    for (const struct json *v = st == OK ? json_first(root) : NULL; v && st == OK;
         v = json_next(v)) {
        if (strcmp(json_key(v), "__metadata__") == 0)
            continue;
        struct tensor t = {.name = arena_strdup(s->arena, json_key(v)), .file = m->path};
        st = t.name ? read_tensor(v, &t, data, data_bytes, err) : NOMEM;
        if (st == OK)
            st = add_tensor(s, &t);
    }
    if (st == OK)
        st = check_cover(s, first, data, data_bytes, err);
    json_free(root);
    return st;
}

static enum status map_file(const char *path, const uint8_t **data, size_t *bytes,
                            struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "%s", path);
    struct stat info;
    enum status st = OK;
    if (fstat(fd, &info) != 0)
        st = error_errno(err, errno, "%s", path);
    else if (!S_ISREG(info.st_mode) || info.st_size <= 0)
        st = error_set(err, INVALID, "%s: not a file with bytes in it", path);
    if (st == OK) {
        void *at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            st = error_errno(err, errno, "%s", path);
        } else {
            /* All of it is wanted soon, from the front. */
            madvise(at, (size_t)info.st_size, MADV_WILLNEED);
            *data = at;
            *bytes = (size_t)info.st_size;
        }
    }
    close(fd);
    return st;
}

static enum status open_shard(struct safetensors *s, const char *dir, const char *name,
                              struct error *err)
{
    if (strchr(name, '/') || name[0] == '.' || name[0] == '\0')
        return error_set(err, INVALID, "%s/model.safetensors.index.json: not a plain file name: %s",
                         dir, name);
    if (s->map_count == SHARDS_MAX)
        return error_set(err, LIMITED, "%s: more than %d shards", dir, SHARDS_MAX);
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = arena_alloc(s->arena, size);
    if (!path)
        return NOMEM;
    snprintf(path, size, "%s/%s", dir, name);
    struct mapping *m = &s->maps[s->map_count];
    *m = (struct mapping){.path = path};
    enum status st = map_file(path, &m->data, &m->bytes, err);
    if (st != OK)
        return st;
    s->map_count++;
    return parse_header(s, m, err);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Every tensor of a shard must be one that the index gives to that shard, and the other way
 * round: two files that disagree are two different models. */
static enum status check_index(const struct safetensors *s, const struct json *map,
                               const char *path, struct error *err)
{
    if ((size_t)json_count(map) != s->count)
        return error_set(err, INVALID, "%s: names %d tensors, the shards hold %zu", path,
                         json_count(map), s->count);
    for (const struct json *v = json_first(map); v; v = json_next(v)) {
        const struct tensor *t = safetensors_find(s, json_key(v));
        if (!t || strcmp(base_name(t->file), json_string(v)) != 0)
            return error_set(err, INVALID, "%s: tensor %s: not in %s", path, json_key(v),
                             json_string(v));
    }
    return OK;
}

static enum status sort_names(struct safetensors *s, struct error *err)
{
    if (s->count)
        qsort(s->tensors, s->count, sizeof *s->tensors, compare_names);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->tensors[i - 1].name, s->tensors[i].name) == 0)
            return error_set(err, INVALID, "%s: tensor %s: also in %s", s->tensors[i].file,
                             s->tensors[i].name, base_name(s->tensors[i - 1].file));
    return OK;
}

static bool shard_is_open(const struct safetensors *s, const char *name)
{
    for (int i = s->map_count - 1; i >= 0; i--)
        if (strcmp(base_name(s->maps[i].path), name) == 0)
            return true;
    return false;
}

static enum status open_index(struct safetensors *s, const char *dir, const char *path,
                              struct error *err)
{
    const uint8_t *text;
    size_t bytes;
    enum status st = map_file(path, &text, &bytes, err);
    if (st != OK)
        return st;
    struct json *root = NULL;
    st = json_parse((const char *)text, bytes, &header_limits, &root, err);
    if (st != OK)
        error_prefix(err, "%s", path);
    munmap((void *)text, bytes);
    if (st != OK)
        return st;
    const struct json *map = json_get(root, "weight_map");
    if (!json_is_object(map) || json_count(map) == 0)
        st = error_set(err, INVALID, "%s: weight_map is not an object of names", path);
    for (const struct json *v = st == OK ? json_first(map) : NULL; v && st == OK;
         v = json_next(v)) {
        if (!json_string(v))
            st = error_set(err, INVALID, "%s: tensor %s: its file is not a string", path,
                           json_key(v));
        else if (!shard_is_open(s, json_string(v)))
            st = open_shard(s, dir, json_string(v), err);
    }
    if (st == OK)
        st = sort_names(s, err);
    if (st == OK)
        st = check_index(s, map, path, err);
    json_free(root);
    return st;
}

static struct safetensors *set_new(void)
{
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->maps = calloc(SHARDS_MAX, sizeof *s->maps);
    s->arena = arena_new(ARENA_BYTES_MAX);
    if (!s->maps || !s->arena) {
        safetensors_free(s);
        return NULL;
    }
    return s;
}

enum status safetensors_open(const char *dir, struct safetensors **out, struct error *err)
{
    char index[4096];
    if ((size_t)snprintf(index, sizeof index, "%s/model.safetensors.index.json", dir) >=
        sizeof index)
        return error_set(err, INVALID, "the folder's name is too long");
    struct safetensors *s = set_new();
    if (!s)
        return error_set(err, NOMEM, "%s: out of memory", dir);
    enum status st;
    if (access(index, F_OK) == 0) {
        st = open_index(s, dir, index, err);
        s->path = arena_strdup(s->arena, index);
    } else {
        st = open_shard(s, dir, "model.safetensors", err);
        s->path = s->maps[0].path;
        if (st == OK)
            st = sort_names(s, err);
    }
    if (st == OK && !s->path)
        st = NOMEM;
    if (st != OK) {
        if (st == NOMEM)
            error_set(err, NOMEM, "%s: out of memory", dir);
        safetensors_free(s);
        return st;
    }
    *out = s;
    return OK;
}

enum status safetensors_parse(const char *path, const uint8_t *image, size_t bytes,
                              struct safetensors **out, struct error *err)
{
    struct safetensors *s = set_new();
    if (!s)
        return error_set(err, NOMEM, "%s: out of memory", path);
    struct mapping m = {image, bytes, arena_strdup(s->arena, path)};
    s->path = m.path;
    enum status st = m.path ? parse_header(s, &m, err) : NOMEM;
    if (st == OK)
        st = sort_names(s, err);
    if (st != OK) {
        safetensors_free(s);
        return st;
    }
    *out = s;
    return OK;
}

void safetensors_free(struct safetensors *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->map_count; i++)
        munmap((void *)s->maps[i].data, s->maps[i].bytes);
    free(s->maps);
    free(s->tensors);
    arena_free(s->arena);
    free(s);
}

const struct tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    if (!s->count)
        return NULL;
    struct tensor key = {.name = name};
    return bsearch(&key, s->tensors, s->count, sizeof key, compare_names);
}

const char *safetensors_describe(const struct safetensors *s)
{
    return s->path;
}

size_t safetensors_bytes(const struct safetensors *s, enum dtype dtype)
{
    size_t bytes = 0;
    for (size_t i = 0; i < s->count; i++)
        bytes += s->tensors[i].dtype == dtype ? s->tensors[i].bytes : 0;
    return bytes;
}

void safetensors_release_pages(const struct safetensors *s)
{
    for (int i = 0; i < s->map_count; i++)
        madvise((void *)s->maps[i].data, s->maps[i].bytes, MADV_DONTNEED);
}

const struct tensor *safetensors_holding(const struct safetensors *s, const uint8_t *at)
{
    for (size_t i = 0; i < s->count; i++)
        if (at >= s->tensors[i].data && at < s->tensors[i].data + s->tensors[i].bytes)
            return &s->tensors[i];
    return NULL;
}
