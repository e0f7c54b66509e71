#include "worker/model/safetensors.h"

#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/check.h"

static const uint8_t *image(const char *header, size_t data_bytes, size_t *bytes)
{
    static uint8_t buffer[8192];
    uint64_t n = strlen(header);
    CHECK_FATAL(8 + n + data_bytes <= sizeof buffer);
    memset(buffer, 0, sizeof buffer);
    memcpy(buffer, &n, 8);
    memcpy(buffer + 8, header, n);
    *bytes = 8 + n + data_bytes;
    return buffer;
}

static void test_good(void)
{
    size_t bytes;
    const uint8_t *file =
        image("{\"__metadata__\":{\"format\":\"pt\"},"
              "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
              "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
              "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]}}  ",
              28, &bytes);
    struct safetensors *s = NULL;
    struct error err = {"untouched"};
    CHECK_FATAL(safetensors_parse("x", file, bytes, &s, &err) == OK);
    CHECK_STR(err.text, "untouched");
    const struct tensor *b = safetensors_find(s, "b");
    CHECK_FATAL(b != NULL);
    CHECK(b->dtype == DTYPE_BF16 && b->dims == 2 && b->shape[0] == 2 && b->shape[1] == 3);
    CHECK(b->bytes == 12 && b->data == file + bytes - 20);
    CHECK(safetensors_find(s, "c")->dtype == DTYPE_OTHER);
    CHECK(safetensors_find(s, "__metadata__") == NULL);
    CHECK(safetensors_find(s, "d") == NULL);
    safetensors_free(s);
}

static const struct {
    const char *header;
    size_t data_bytes;
    const char *complaint;
} broken[] = {
    {"{", 0, "header"},
    {"[]", 0, "not an object"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}x", 8, "header"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "tensor a: ends"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "behind the last"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "tensor a: its shape"},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "tensor a: its shape"},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype F33"},
    {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "unknown dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "impossible shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,8]}}", 8, "impossible shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "shape is not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "shape is not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1099511627776,1099511627776],\"data_offsets\":[0,8]}}",
     8, "impossible shape"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "needs dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8, "needs dtype"},
    {"{\"a\":7}", 8, "needs dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "a hole"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
     12, "tensor b: overlaps"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     16, "header"},
};

static void test_broken(void)
{
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        size_t bytes;
        const uint8_t *file = image(broken[i].header, broken[i].data_bytes, &bytes);
        struct safetensors *s = NULL;
        struct error err = {""};
        CHECK(safetensors_parse("model.safetensors", file, bytes, &s, &err) == INVALID);
        CHECK(s == NULL && strstr(err.text, "model.safetensors: ") == err.text);
        if (!strstr(err.text, broken[i].complaint))
            fprintf(stderr, "%s\n", err.text);
        CHECK(strstr(err.text, broken[i].complaint) != NULL);
    }
}

static void test_lengths(void)
{
    size_t bytes;
    const uint8_t *good =
        image("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, &bytes);
    uint8_t copy[256];
    CHECK_FATAL(bytes <= sizeof copy);
    for (size_t n = 0; n < bytes; n++) { /* cut anywhere */
        struct safetensors *s = NULL;
        struct error err = {""};
        memcpy(copy, good, n);
        CHECK(safetensors_parse("x", copy, n, &s, &err) == INVALID && !s && err.text[0]);
    }
    static const uint64_t lies[] = {0, 1, 1000, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 40};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct safetensors *s = NULL;
        struct error err = {""};
        memcpy(copy, good, bytes);
        memcpy(copy, &lies[i], 8);
        CHECK(safetensors_parse("x", copy, bytes, &s, &err) == INVALID && !s);
    }
}

static char folder[] = "/tmp/shards-XXXXXX";

static void put(const char *name, const void *data, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wbe");
    CHECK_FATAL(f && fwrite(data, 1, bytes, f) == bytes);
    fclose(f);
}

static void put_tensor(const char *file, const char *name)
{
    char header[256];
    size_t bytes;
    snprintf(header, sizeof header,
             "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", name);
    const uint8_t *data = image(header, 8, &bytes);
    put(file, data, bytes);
}

static enum status open_with(const char *index, struct error *err)
{
    struct safetensors *s = NULL;
    put("model.safetensors.index.json", index, strlen(index));
    enum status st = safetensors_open(folder, &s, err);
    if (st == OK)
        CHECK(safetensors_find(s, "a") && safetensors_find(s, "b"));
    safetensors_free(s);
    return st;
}

static void test_shards(void)
{
    struct error err = {""};
    CHECK_FATAL(mkdtemp(folder) != NULL);
    put_tensor("1.safetensors", "a");
    put_tensor("2.safetensors", "b");
    CHECK(open_with("{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", &err) ==
          OK);
    static const char *const wrong[] = {
        "{}",
        "{\"weight_map\":{}}",
        "{\"weight_map\":{\"a\":1}}",
        "{\"weight_map\":{\"a\":\"1.safetensors\"}}{",
        "{\"weight_map\":{\"a\":\"../1.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"\"}}",
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        err.text[0] = '\0';
        CHECK(open_with(wrong[i], &err) != OK);
        CHECK(strstr(err.text, folder) == err.text);
    }
    static const char *const files[] = {"1.safetensors", "2.safetensors",
                                        "model.safetensors.index.json"};
    for (int i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    struct safetensors *s = NULL;
    CHECK(safetensors_open(folder, &s, &err) == IO_FAILED);
    CHECK(strstr(err.text, "model.safetensors: No such file") != NULL);
    rmdir(folder);
}

int main(void)
{
    test_good();
    test_broken();
    test_lengths();
    test_shards();
    return check_done();
}
