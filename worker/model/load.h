/*
 * Inside loading: from the tensors of a folder to the weights of a model. Every tensor is asked
 * for by name and shape; each function's error is one line with the file and the tensor. Private
 * to worker/model.
 */
#ifndef WORKER_MODEL_LOAD_H
#define WORKER_MODEL_LOAD_H

#include "worker/model/pass.h"

struct loader {
    struct model *m;
    const struct model_config *c;
    struct error *err;
    struct packer *packer;
    char prefix[64]; /* of the names asked for */
};

/* A tensor [rows][cols], or [rows] when cols is 0, of a type that weights may have. */
enum status load_find(const struct loader *l, const char *name, int rows, int cols,
                      const struct tensor **out);
/* A weight [rows][cols], with its scales if it is FP8. */
enum status load_weight(const struct loader *l, const char *name, int rows, int cols,
                        struct source *out);
/* The same as a matrix of its own. */
enum status load_plain(const struct loader *l, const char *name, int rows, int cols,
                       struct matrix *out);
/* One that is never quantised, nor its input ever rounded. */
enum status load_exact(const struct loader *l, const char *name, int rows, int cols,
                       struct matrix *out);
/* n values as floats, padded with zeros to a multiple of 16. */
enum status load_vector(const struct loader *l, const char *name, int n, const float **out);
/* Two weights that share a matrix must be stored alike. */
enum status load_same_type(const struct loader *l, const struct source *a, const struct source *b);
enum status load_mla(const struct loader *l, struct mla *a);
enum status load_gqa(const struct loader *l, struct gqa *a);
/* A whole layer, "model.layers.INDEX.". */
enum status load_layer(struct loader *l, int index, struct layer *layer);
/* Into l->m->mtp. */
enum status load_mtp(struct loader *l);

#endif
