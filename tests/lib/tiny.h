/*
 * Small random models of any family, written to a temporary folder in the published form. A
 * tensor's values depend on its name and place alone, so that two folders that differ in one thing
 * differ in that thing. What cannot be done ends the program.
 */
#ifndef TESTS_LIB_TINY_H
#define TESTS_LIB_TINY_H

#include <stdbool.h>

#include "worker/model/safetensors.h"

enum { TINY_TENSORS_MAX = 400, TINY_HIDDEN = 64, TINY_VOCAB = 90, TINY_LAYERS = 3, TINY_MLP = 96 };

struct tiny_tensor {
    char name[80];
    int rows, cols; /* cols 0: a vector */
};

struct tiny {
    /* what to make */
    const char *architecture, *extra; /* extra: more fields of config.json, each behind a comma */
    enum dtype dtype; /* of all tensors; F8: of the big ones, in blocks of 32 x 32 */
    bool unfolded;    /* F8: write the numbers that those bytes and scales mean instead */
    bool latent, biases, head_norms, choice_bias, tied, mixtral;
    int q_rank;                     /* latent; 0: one projection */
    int heads, kv_heads, head_dims; /* grouped */
    int repeat;                     /* so many KV heads in a row are equal; 0: none are */
    int experts, shared, expert_width;
    int dense_layers; /* the first so many have no experts */
    int spoilt;       /* this tensor, counted from 1, ends with a NaN; 0: none does */
    /* what was made */
    char dir[32];
    struct tiny_tensor tensors[TINY_TENSORS_MAX];
    int count;
};

/* A folder with config.json and model.safetensors; the tensors are listed in t. */
void tiny_make(struct tiny *t);
void tiny_remove(const struct tiny *t);
/* The same files anew: with other fields, or without tensor number `without` (-1: with all). */
void tiny_write_config(const struct tiny *t, const char *extra);
void tiny_write_weights(const struct tiny *t, int without);

#endif
