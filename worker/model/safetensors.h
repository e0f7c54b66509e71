/*
 * Weights of a Hugging Face folder: model.safetensors, or the shards that
 * model.safetensors.index.json names. Files are mapped, not read. A header is checked whole
 * before any tensor is handed out: every offset lies inside the file, tensors neither overlap nor
 * leave holes, and the bytes of each agree with its type and shape. Immutable: any thread.
 */
#ifndef WORKER_MODEL_SAFETENSORS_H
#define WORKER_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_F8_E4M3,
    DTYPE_OTHER, /* a known type that no weight of ours has */
};

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    const char *name;
    const char *file; /* path, for errors */
    enum dtype dtype;
    int dims;
    int64_t shape[TENSOR_MAX_DIMS];
    const uint8_t *data; /* not aligned; lives as long as the set */
    size_t bytes;
};

struct safetensors;

enum status safetensors_open(const char *dir, struct safetensors **out, struct error *err);
/* The same checks on a file image in memory, which must outlive the set. path is for errors. */
enum status safetensors_parse(const char *path, const uint8_t *image, size_t bytes,
                              struct safetensors **out, struct error *err);
void safetensors_free(struct safetensors *s); /* NULL is fine; unmaps */
const struct tensor *safetensors_find(const struct safetensors *s, const char *name);
/* The tensor that the address lies in; NULL: none. */
const struct tensor *safetensors_holding(const struct safetensors *s, const uint8_t *at);
/* The file, or for shards their index: where a tensor that is not there should have been. */
const char *safetensors_describe(const struct safetensors *s);
/* Tells the system that the mapped pages will not be read again soon. */
void safetensors_release_pages(const struct safetensors *s);
/* Of all tensors of a type. */
size_t safetensors_bytes(const struct safetensors *s, enum dtype dtype);
const char *dtype_name(enum dtype dtype);
size_t dtype_bytes(enum dtype dtype); /* of one element; not for DTYPE_OTHER */

#endif
