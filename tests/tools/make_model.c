/*
 * Makes a model with random weights in the shape of a config.json: for measuring speed, where
 * what the weights say does not matter. Beside the Hugging Face folder it writes GGUF files with
 * the same numbers, for llama.cpp. Weights are nearly normal, scaled by one over the square root
 * of the inputs, so that activations stay finite. One row is in memory at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/error.h"
#include "tests/tools/model_plan.h"
#include "tests/tools/model_values.h"

static const char usage[] =
    "usage: make-model [--seed N] CONFIG DIR [TYPE...]\n"
    "\n"
    "  CONFIG  a config.json of DeepseekV3ForCausalLM or Qwen2ForCausalLM\n"
    "  DIR     gets config.json and model.safetensors (bf16)\n"
    "  TYPE    bf16, q8_0 or q4_0: also DIR/TYPE.gguf, from the same numbers\n";

enum { PATH_BYTES = 1024, ROW_MAX = 1 << 24, ALIGN = 32 };

struct output {
    FILE *file;
    const char *path;
    uint64_t bytes;
    uint16_t *row;
    uint8_t *encoded;
    enum status status;
    struct error *err;
};

static void write_bytes(struct output *o, const void *data, size_t n)
{
    if (o->status == OK && fwrite(data, 1, n, o->file) != n)
        o->status = error_errno(o->err, errno, "%s", o->path);
    o->bytes += n;
}

static void write_u32(struct output *o, uint32_t v)
{
    write_bytes(o, &v, 4);
}

static void write_u64(struct output *o, uint64_t v)
{
    write_bytes(o, &v, 8);
}

static void write_padding(struct output *o)
{
    static const uint8_t zeros[ALIGN];
    write_bytes(o, zeros, (ALIGN - o->bytes % ALIGN) % ALIGN);
}

static enum status add_header(struct buf *b, const struct model_plan *p)
{
    uint64_t at = 0;
    enum status st = buf_adds(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; st == OK && i < p->weight_count; i++) {
        const struct weight *w = &p->weights[i];
        uint64_t bytes = (uint64_t)(w->rows * w->cols) * 2;
        char shape[64];
        snprintf(shape, sizeof shape, w->vector ? "%lld" : "%lld,%lld",
                 (long long)(w->vector ? w->cols : w->rows), (long long)w->cols);
        st = buf_addf(b, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                      w->name, shape, (unsigned long long)at, (unsigned long long)(at + bytes));
        at += bytes;
    }
    if (st == OK)
        st = buf_adds(b, "}");
    while (st == OK && buf_len(b) % 64 != 56) /* the data begins on a cache line */
        st = buf_adds(b, " ");
    return st;
}

static void write_safetensors(struct output *o, const struct model_plan *p)
{
    struct buf header;
    buf_init(&header, 64 << 20);
    if (add_header(&header, p) != OK)
        o->status = error_set(o->err, NOMEM, "%s: out of memory for its header", o->path);
    write_u64(o, buf_len(&header));
    write_bytes(o, buf_head(&header), buf_len(&header));
    buf_done(&header);
    for (int i = 0; i < p->weight_count; i++)
        for (int64_t r = 0; o->status == OK && r < p->weights[i].rows; r++) {
            value_row(&p->weights[i], r, o->row);
            write_bytes(o, o->row, (size_t)p->weights[i].cols * 2);
        }
}

static int64_t rows_of(const struct gguf_tensor *t)
{
    return (t->dims > 1 ? t->shape[1] : 1) * (t->dims > 2 ? t->shape[2] : 1);
}

static void write_gguf_header(struct output *o, const struct model_plan *p, enum value_type type)
{
    uint64_t at = 0;
    write_bytes(o, "GGUF", 4);
    write_u32(o, 3);
    write_u64(o, (uint64_t)p->tensor_count);
    write_u64(o, (uint64_t)p->metadata_count);
    write_bytes(o, buf_head(&p->metadata), buf_len(&p->metadata));
    for (int i = 0; i < p->tensor_count; i++) {
        const struct gguf_tensor *t = &p->tensors[i];
        enum value_type is = t->exact ? VALUE_F32 : type;
        write_u64(o, strlen(t->name));
        write_bytes(o, t->name, strlen(t->name));
        write_u32(o, (uint32_t)t->dims);
        for (int d = 0; d < t->dims; d++)
            write_u64(o, (uint64_t)t->shape[d]);
        write_u32(o, value_type_id(is));
        write_u64(o, at);
        uint64_t bytes = value_bytes(is, t->shape[0]) * (uint64_t)rows_of(t);
        at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    write_padding(o);
}

static void write_gguf(struct output *o, const struct model_plan *p, enum value_type type)
{
    write_gguf_header(o, p, type);
    for (int i = 0; i < p->tensor_count; i++) {
        const struct gguf_tensor *t = &p->tensors[i];
        enum value_type is = t->exact ? VALUE_F32 : type;
        if (is != VALUE_F32 && is != VALUE_BF16 && t->shape[0] % 32)
            o->status = error_set(o->err, INVALID, "%s: rows of %lld do not divide into blocks",
                                  t->name, (long long)t->shape[0]);
        for (int64_t r = 0; o->status == OK && r < rows_of(t); r++) {
            value_tensor_row(p, t, r, o->row);
            value_encode(is, o->row, t->shape[0], o->encoded);
            write_bytes(o, o->encoded, value_bytes(is, t->shape[0]));
        }
        write_padding(o);
    }
}

/* type: one of GGUF's, or -1 for the safetensors. */
static enum status write_file(const char *path, const struct model_plan *p, int type,
                              struct error *err)
{
    int64_t widest = 1;
    for (int i = 0; i < p->weight_count; i++)
        widest = p->weights[i].cols > widest ? p->weights[i].cols : widest;
    if (widest > ROW_MAX)
        return error_set(err, INVALID, "a row of %lld values is too wide", (long long)widest);
    struct output o = {.path = path,
                       .err = err,
                       .file = fopen(path, "wbe"),
                       .row = malloc((size_t)widest * 2),
                       .encoded = malloc((size_t)widest * 4)};
    if (!o.file)
        o.status = error_errno(err, errno, "%s", path);
    else if (!o.row || !o.encoded)
        o.status = error_set(err, NOMEM, "out of memory");
    else if (type < 0)
        write_safetensors(&o, p);
    else
        write_gguf(&o, p, (enum value_type)type);
    if (o.file && fclose(o.file) != 0 && o.status == OK)
        o.status = error_errno(err, errno, "%s", path);
    free(o.row);
    free(o.encoded);
    if (o.status == OK)
        printf("%s: %.1f MB\n", path, (double)o.bytes / 1e6);
    return o.status;
}

static enum status copy_file(const char *from, const char *to, struct error *err)
{
    char text[65536];
    FILE *in = fopen(from, "rbe");
    size_t n = in ? fread(text, 1, sizeof text, in) : 0;
    if (in)
        fclose(in);
    FILE *out = fopen(to, "wbe");
    bool done = n > 0 && n < sizeof text && out && fwrite(text, 1, n, out) == n;
    if (out)
        done = fclose(out) == 0 && done;
    return done ? OK : error_set(err, IO_FAILED, "cannot copy %s to %s", from, to);
}

static int type_of(const char *name)
{
    static const char *const names[] = {
        [VALUE_F32] = "", [VALUE_BF16] = "bf16", [VALUE_Q8_0] = "q8_0", [VALUE_Q4_0] = "q4_0"};
    for (int i = VALUE_BF16; i <= VALUE_Q4_0; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static enum status make(char **args, int count, uint64_t seed, struct error *err)
{
    struct model_plan plan;
    char path[PATH_BYTES];
    enum status st = model_plan_make(args[0], seed, &plan, err);
    if (st != OK)
        return st;
    if (mkdir(args[1], 0777) != 0 && errno != EEXIST)
        st = error_errno(err, errno, "%s", args[1]);
    snprintf(path, sizeof path, "%s/config.json", args[1]);
    if (st == OK)
        st = copy_file(args[0], path, err);
    snprintf(path, sizeof path, "%s/model.safetensors", args[1]);
    if (st == OK)
        st = write_file(path, &plan, -1, err);
    for (int i = 2; st == OK && i < count; i++) {
        snprintf(path, sizeof path, "%s/%s.gguf", args[1], args[i]);
        st = write_file(path, &plan, type_of(args[i]), err);
    }
    model_plan_done(&plan);
    return st;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    char **args = argv + 1;
    int count = argc - 1;
    if (count > 1 && strcmp(args[0], "--seed") == 0) {
        seed = strtoull(args[1], NULL, 10);
        args += 2;
        count -= 2;
    }
    bool bad = count < 2;
    for (int i = 2; i < count; i++)
        bad = bad || type_of(args[i]) < 0;
    if (bad) {
        fputs(usage, stderr);
        return 2;
    }
    struct error err = {""};
    if (make(args, count, seed, &err) == OK)
        return 0;
    fprintf(stderr, "make-model: %s\n", err.text);
    return 1;
}
