#include "worker/model/config.h"

#include <math.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

static const struct family *const families[] = {&family_deepseek_v3};
enum { FAMILY_COUNT = sizeof families / sizeof *families };

bool model_config_is_moe(const struct model_config *c, int layer)
{
    return c->moe.experts > 0 && layer >= c->moe.first_layer && layer % c->moe.every == 0;
}

void config_read_common(struct fields *f, struct model_config *c)
{
    c->vocab = fields_int(f, "vocab_size", 1, 1 << 22);
    c->hidden = fields_int(f, "hidden_size", 16, 1 << 16);
    c->layers = fields_int(f, "num_hidden_layers", 1, 1024);
    c->heads = fields_int(f, "num_attention_heads", 1, 1024);
    c->context_tokens = fields_int(f, "max_position_embeddings", 1, 1 << 24);
    c->mlp_width = fields_int(f, "intermediate_size", 16, 1 << 20);
    c->epsilon = fields_number(f, "rms_norm_eps", 0, 1);
    c->tied_embeddings = fields_bool_or(f, "tie_word_embeddings", false);
    fields_must_divide(f, "hidden_size", c->hidden, 16);
    fields_must_divide(f, "intermediate_size", c->mlp_width, 16);
    fields_must_be(f, "hidden_act", "silu", true);
    fields_must_be_off(f, "attention_bias");
    fields_must_be_off(f, "mlp_bias");
}

static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static void read_yarn(struct fields *f, struct rope_config *r, double *mscale_all_dim)
{
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
    r->theta = fields_number_or(newer ? &inner : f, "rope_theta", 1, 1e12, 10000);
    if (!fields_has(f, name))
        return;
    const char *kind = fields_text(&inner, fields_has(&inner, "rope_type") ? "rope_type" : "type");
    if (!json_is_object(inner.object))
        fields_fail(f, name, "is not an object");
    else if (kind && strcmp(kind, "yarn") == 0)
        read_yarn(&inner, r, mscale_all_dim);
    else if (!(newer && !kind) && !(kind && strcmp(kind, "default") == 0))
        fields_fail(&inner, "type", "is not one of \"yarn\" and \"default\"");
    if (f->status == OK)
        f->status = inner.status;
}

void config_read_fp8(struct fields *f, struct model_config *c)
{
    if (!fields_has(f, "quantization_config"))
        return;
    struct fields q = *f;
    q.prefix = "quantization_config.";
    q.object = json_get(f->object, "quantization_config");
    fields_must_be(&q, "quant_method", "fp8", false);
    fields_must_be(&q, "fmt", "e4m3", true);
    const struct json *size = json_get(q.object, "weight_block_size");
    int64_t rows = 0, cols = 0;
    if (!json_is_array(size) || json_count(size) != 2 ||
        !json_int(json_first(size), 16, 65536, &rows) ||
        !json_int(json_next(json_first(size)), 16, 65536, &cols) || rows % 16 || cols % 16)
        fields_fail(&q, "weight_block_size", "is not two multiples of 16, such as [128, 128]");
    c->block_rows = (int)rows;
    c->block_cols = (int)cols;
    if (f->status == OK)
        f->status = q.status;
}

static const struct family *find_family(struct fields *f)
{
    const struct json *list = json_get(f->object, "architectures");
    const char *name = json_string(json_first(json_is_array(list) ? list : NULL));
    for (int i = 0; name && i < FAMILY_COUNT; i++)
        if (strcmp(families[i]->architecture, name) == 0)
            return families[i];
    char why[200];
    snprintf(why, sizeof why, "names %.80s; supported: %s", name ? name : "no architecture",
             families[0]->architecture);
    fields_fail(f, "architectures", why);
    return NULL;
}

enum status model_config_load(const char *dir, struct model_config *out, struct error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path)
        return error_set(err, INVALID, "the folder's name is too long");
    struct json *root = NULL;
    enum status st = json_parse_file(path, CONFIG_BYTES_MAX, &root, err);
    if (st != OK)
        return st;
    struct fields f = {.path = path, .prefix = "", .object = root, .err = err};
    struct model_config c = {0};
    if (!json_is_object(root))
        f.status = error_set(err, INVALID, "%s: not an object", path);
    const struct family *family = f.status == OK ? find_family(&f) : NULL;
    if (family)
        family->read(&f, &c);
    json_free(root);
    if (f.status == OK)
        *out = c;
    return f.status;
}
