/*
 * What a random model of a given config.json consists of: its weights by their Hugging Face
 * names, and the same weights as llama.cpp names and arranges them in a GGUF file. Plain values;
 * any thread. Sources: the public modeling code of each family, and llama.cpp's src/models.
 */
#ifndef TESTS_TOOLS_MODEL_PLAN_H
#define TESTS_TOOLS_MODEL_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct weight {
    char name[112];
    int64_t rows, cols; /* a vector: one row */
    bool vector;
    float mean, deviation;
    uint64_t key; /* of its random numbers */
};

enum layout {
    LAYOUT_PLAIN,
    LAYOUT_STACK, /* the same matrix of every expert: weights[first + 3 e] */
    LAYOUT_KEY,   /* of kv_b: per head the key's rows, transposed */
    LAYOUT_VALUE, /* of kv_b: per head the value's rows */
};

struct gguf_tensor {
    char name[64];
    int dims;
    int64_t shape[3]; /* the innermost first */
    enum layout layout;
    int first;     /* in weights */
    int head_rows; /* of kv_b: rows of one head */
    bool exact;    /* float32 whatever the type of the file */
};

struct model_plan {
    struct weight *weights;
    int weight_count;
    struct gguf_tensor *tensors;
    int tensor_count;
    struct buf metadata; /* of GGUF: key-value pairs as they stand in the file */
    int metadata_count;
};

/* DeepseekV3ForCausalLM and Qwen2ForCausalLM. The error names the file and the
 * field. *out is freed with model_plan_done. */
enum status model_plan_make(const char *config_file, uint64_t seed, struct model_plan *out,
                            struct error *err);
void model_plan_done(struct model_plan *p);

#endif
