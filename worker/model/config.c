#include "worker/model/config.h"

#include <math.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

static const struct family *const families[] = {
    &family_deepseek_v2, &family_deepseek_v3, &family_llama,     &family_mistral,
    &family_qwen2,       &family_qwen3,       &family_qwen3_moe, &family_mixtral,
};
enum { FAMILY_COUNT = sizeof families / sizeof *families };

void config_read_common(struct fields *f, struct model_config *c)
{
    c->vocab = fields_int(f, "vocab_size", 1, 1 << 22);
    c->hidden = fields_int(f, "hidden_size", 16, 1 << 16);
    c->layers = fields_int(f, "num_hidden_layers", 1, MODEL_MAX_LAYERS - 1);
    c->heads = fields_int(f, "num_attention_heads", 1, MODEL_MAX_HEADS);
    c->context_tokens = fields_int(f, "max_position_embeddings", 1, 1 << 24);
    c->mlp_width = fields_int(f, "intermediate_size", 16, 1 << 20);
    c->epsilon = fields_number(f, "rms_norm_eps", 0, 1);
    c->tied_embeddings = fields_bool_or(f, "tie_word_embeddings", false);
    c->names =
        (struct tensor_names){"mlp.gate", "mlp.experts", "gate_proj", "up_proj", "down_proj"};
    fields_must_divide(f, "hidden_size", c->hidden, 16);
    fields_must_divide(f, "intermediate_size", c->mlp_width, 16);
    fields_must_be(f, "hidden_act", "silu", true);
    fields_must_be_off(f, "mlp_bias");
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

static void read_heads(struct fields *f, struct model_config *c)
{
    struct gqa_config *g = &c->gqa;
    g->kv_heads = fields_int_or(f, "num_key_value_heads", 1, MODEL_MAX_HEADS, c->heads);
    g->head_dims = fields_int_or(f, "head_dim", 2, 1024, c->hidden / c->heads);
    if (g->head_dims < 2)
        fields_fail(f, "num_attention_heads", "leaves less than 2 dimensions to a head");
    fields_must_divide(f, "head_dim", g->head_dims, 2);
    if (c->heads * g->head_dims % 16)
        fields_fail(f, "num_attention_heads",
                    "times head_dim is not a multiple of 16; only multiples are supported");
    g->head_stride = (g->head_dims + 15) / 16 * 16;
    if (c->heads % g->kv_heads)
        fields_fail(f, "num_key_value_heads", "does not divide num_attention_heads");
    g->softmax_scale = 1 / sqrt(g->head_dims);
}

void config_read_gqa(struct fields *f, struct model_config *c)
{
    double unused;
    c->attention = ATTENTION_GROUPED;
    read_heads(f, c);
    if (fields_has(f, "partial_rotary_factor") &&
        fields_number(f, "partial_rotary_factor", 0, 1) < 1)
        fields_fail(f, "partial_rotary_factor", "is below 1; only 1 is supported");
    config_read_rope(f, &c->rope, &unused);
    c->rope.dims = c->gqa.head_dims;
    c->rope.halves = true;
}

int config_read_window(struct fields *f, int missing)
{
    if (!json_get(f->object, "sliding_window"))
        return missing;
    return fields_int_or(f, "sliding_window", 1, INT32_MAX, 0);
}

static void read_layer_types(struct fields *f, struct model_config *c, int window)
{
    const struct json *types = json_get(f->object, "layer_types");
    int i = 0;
    if (!json_is_array(types) || json_count(types) != c->layers)
        fields_fail(f, "layer_types", "does not have one text for each layer");
    for (const struct json *t = json_first(types); t && i < c->layers; t = json_next(t), i++) {
        const char *is = json_string(t);
        bool slides = is && strcmp(is, "sliding_attention") == 0;
        if (slides && !window)
            fields_fail(f, "layer_types", "names sliding_attention, but there is no window");
        else if (!slides && (!is || strcmp(is, "full_attention") != 0))
            fields_fail(f, "layer_types", "names others than full_attention and sliding_attention");
        c->window[i] = slides ? window : 0;
    }
}

void config_set_window(struct fields *f, struct model_config *c, int window, int from)
{
    for (int i = from; i < c->layers; i++)
        c->window[i] = window;
    if (fields_has(f, "layer_types"))
        read_layer_types(f, c, window);
    for (int i = 0; i < c->layers; i++)
        if (c->window[i] >= c->context_tokens)
            c->window[i] = 0;
}

void config_refuse_window(struct fields *f, struct model_config *c)
{
    int window = config_read_window(f, 0);
    if (window && window < c->context_tokens)
        fields_fail(f, "sliding_window",
                    "is below max_position_embeddings; this family has full attention only");
    config_set_window(f, c, 0, 0);
}

void config_check_moe(struct fields *f, const struct moe_config *m)
{
    int group = m->experts / m->groups;
    if (m->experts % m->groups || (m->groups > 1 && group < 2))
        fields_fail(f, "n_group", "does not divide n_routed_experts into groups of two or more");
    else if (m->kept_groups > m->groups)
        fields_fail(f, "topk_group", "is more than n_group");
    else if (m->chosen > m->kept_groups * group)
        fields_fail(f, "num_experts_per_tok",
                    m->groups > 1 ? "is more than the kept groups hold"
                                  : "is more than all experts");
}

static const struct family *find_family(struct fields *f)
{
    const struct json *list = json_get(f->object, "architectures");
    const char *name = json_string(json_first(json_is_array(list) ? list : NULL));
    char why[400];
    size_t used;
    for (int i = 0; name && i < FAMILY_COUNT; i++)
        if (strcmp(families[i]->architecture, name) == 0)
            return families[i];
    used = (size_t)snprintf(why, sizeof why,
                            "names %.80s; supported:", name ? name : "no architecture");
    for (int i = 0; i < FAMILY_COUNT; i++)
        used += (size_t)snprintf(why + used, sizeof why - used, "%s %s", i ? "," : "",
                                 families[i]->architecture);
    fields_fail(f, "architectures", why);
    return NULL;
}

enum status model_config_read(const char *path, const struct json *root, struct model_config *out,
                              struct error *err)
{
    struct fields f = {.path = path, .prefix = "", .object = root, .err = err};
    struct model_config c = {0};
    if (!json_is_object(root))
        return error_set(err, INVALID, "%s: not an object", path);
    const struct family *family = find_family(&f);
    if (family) {
        c.architecture = family->architecture;
        family->read(&f, &c);
    }
    if (f.status == OK)
        *out = c;
    return f.status;
}

enum status model_config_load(const char *dir, struct model_config *out, struct error *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path)
        return error_set(err, INVALID, "the folder's name is too long");
    struct json *root = NULL;
    enum status st = json_parse_file(path, CONFIG_BYTES_MAX, &root, err);
    if (st == OK)
        st = model_config_read(path, root, out, err);
    json_free(root);
    return st;
}
