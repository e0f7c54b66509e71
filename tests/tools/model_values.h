/*
 * The numbers of a random model and the ways a file stores them. A value depends on its weight's
 * key and its place alone, so that every file has the same ones, whatever its order. Pure.
 */
#ifndef TESTS_TOOLS_MODEL_VALUES_H
#define TESTS_TOOLS_MODEL_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "tests/tools/model_plan.h"

enum value_type { VALUE_F32, VALUE_BF16, VALUE_Q8_0, VALUE_Q4_0 };

/* bfloat16 bits. */
uint16_t value_at(const struct weight *w, int64_t row, int64_t col);
void value_row(const struct weight *w, int64_t row, uint16_t *out);
/* One row of a GGUF tensor, gathered from the weights it is made of. */
void value_tensor_row(const struct model_plan *p, const struct gguf_tensor *t, int64_t row,
                      uint16_t *out);

/* The number of GGUF's type, and the bytes of a row of n values: n is a multiple of 32 for the
 * last two types. */
uint32_t value_type_id(enum value_type type);
size_t value_bytes(enum value_type type, int64_t n);
/* As llama.cpp stores them: blocks of 32 values with a float16 scale; 8-bit ones by rounding,
 * 4-bit ones so that the largest value becomes -8. */
void value_encode(enum value_type type, const uint16_t *bf16, int64_t n, uint8_t *out);

#endif
