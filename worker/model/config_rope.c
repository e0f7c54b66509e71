/* The forms in which config.json gives rotary positions. */
#include <math.h>

#include "worker/model/config.h"

static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static void read_yarn(struct fields *f, struct rope_config *r, double *mscale_all_dim)
{
    r->stretch = ROPE_YARN;
    r->factor = fields_number(f, "factor", 1, 1e6);
    r->original_tokens = fields_number(f, "original_max_position_embeddings", 1, 1e9);
    r->beta_fast = fields_number_or(f, "beta_fast", 1e-6, 1e6, 32);
    r->beta_slow = fields_number_or(f, "beta_slow", 1e-6, 1e6, 1);
    double mscale = fields_number_or(f, "mscale", 0, 1e3, 0);
    *mscale_all_dim = fields_number_or(f, "mscale_all_dim", 0, 1e3, 0);
    if (!fields_bool_or(f, "truncate", true))
        fields_fail(f, "truncate", "is false; only true is supported");
    if (fields_has(f, "attention_factor"))
        r->magnitude = fields_number(f, "attention_factor", 0, 1e3);
    else if (mscale > 0 && *mscale_all_dim > 0)
        r->magnitude =
            yarn_magnitude(r->factor, mscale) / yarn_magnitude(r->factor, *mscale_all_dim);
    else
        r->magnitude = yarn_magnitude(r->factor, 1);
}

static void read_linear(struct fields *f, struct rope_config *r)
{
    r->stretch = ROPE_LINEAR;
    r->factor = fields_number(f, "factor", 1, 1e6);
}

static void read_llama3(struct fields *f, struct rope_config *r)
{
    r->stretch = ROPE_LLAMA3;
    r->factor = fields_number(f, "factor", 1, 1e6);
    r->original_tokens = fields_number(f, "original_max_position_embeddings", 1, 1e9);
    r->low_factor = fields_number(f, "low_freq_factor", 1e-6, 1e6);
    r->high_factor = fields_number(f, "high_freq_factor", 1e-6, 1e6);
    if (r->high_factor <= r->low_factor)
        fields_fail(f, "high_freq_factor", "is not above low_freq_factor");
}

/* "dynamic" and "longrope" turn by angles that depend on how long the whole text will be, so what
 * is cached of its beginning would not be what its end must see. */
static void refuse_stretch(struct fields *f, const char *kind)
{
    char why[160];
    snprintf(why, sizeof why,
             "is %.40s; supported: \"linear\", \"yarn\", \"llama3\" and \"default\"", kind);
    fields_fail(f, fields_has(f, "rope_type") ? "rope_type" : "type", why);
}

static void read_stretch(struct fields *f, const char *kind, struct rope_config *r,
                         double *mscale_all_dim)
{
    if (strcmp(kind, "yarn") == 0)
        read_yarn(f, r, mscale_all_dim);
    else if (strcmp(kind, "llama3") == 0)
        read_llama3(f, r);
    else if (strcmp(kind, "linear") == 0)
        read_linear(f, r);
    else if (strcmp(kind, "default") != 0)
        refuse_stretch(f, kind);
}

/* Publishers write rope_theta and rope_scaling; newer tools put both into rope_parameters. */
void config_read_rope(struct fields *f, struct rope_config *r, double *mscale_all_dim)
{
    bool newer = fields_has(f, "rope_parameters");
    const char *name = newer ? "rope_parameters" : "rope_scaling";
    struct fields inner = *f;
    inner.prefix = newer ? "rope_parameters." : "rope_scaling.";
    inner.object = json_get(f->object, name);
    r->magnitude = 1;
    *mscale_all_dim = 0;
    struct fields *base = newer && fields_has(&inner, "rope_theta") ? &inner : f;
    r->theta = fields_number_or(base, "rope_theta", 1, 1e12, 10000);
    if (!fields_has(f, name))
        return;
    const char *field = fields_has(&inner, "rope_type") ? "rope_type" : "type";
    const char *kind = fields_text(&inner, field);
    if (!json_is_object(inner.object))
        fields_fail(f, name, "is not an object");
    else if (kind)
        read_stretch(&inner, kind, r, mscale_all_dim);
    else if (!newer || fields_has(&inner, field))
        fields_fail(&inner, field, "is not a text");
    if (f->status == OK)
        f->status = inner.status;
}
