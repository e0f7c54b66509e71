#include "worker/offline_text.h"

#include "tests/unit/worker/text_fixture.h"

static char folder[] = "/tmp/test_offline.XXXXXX";
static char strings_path[64];

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "w");
    CHECK_FATAL(f);
    CHECK(fwrite(data, 1, len, f) == len);
    fclose(f);
}

/* ids NULL: an error that holds `error`. */
static const struct {
    const char *strings, *ids, *error;
} cases[] = {
    {"[]", "[\n]\n", NULL},
    {" [ \"\" ] ", "[\n []\n]\n", NULL},
    {"[\"a\\u0000\", \"ab\"]", "[\n [97, 0],\n [256]\n]\n", NULL},
    {"[\"\\\"\\\\\\/\\n\\u00e9\\u4F60\\ud83d\\ude42\"]",
     "[\n [34, 92, 47, 10, 195, 169, 228, 189, 160, 240, 159, 153, 130]\n]\n", NULL},
    {"[\"<end>a\"]", "[\n [302, 97]\n]\n", NULL},
    {"", NULL, "not a JSON array"},
    {"{}", NULL, "not a JSON array"},
    {"[1]", NULL, "entry 0"},
    {"[\"a\",]", NULL, "entry 1"},
    {"[\"a\" \"b\"]", NULL, "after entry 0"},
    {"[\"a\"] x", NULL, "after entry 0"},
    {"[\"a", NULL, "entry 0"},
    {"[\"\\x\"]", NULL, "entry 0"},
    {"[\"\\ud83d\"]", NULL, "entry 0"},
    {"[\"\\ude42\"]", NULL, "entry 0"},
    {"[\"\\ud83d\\u0041\"]", NULL, "entry 0"},
    {"[\"\\u12g4\"]", NULL, "entry 0"},
    {"[\"\xff\"]", NULL, "entry 0"},
    {"[\"a\nb\"]", NULL, "entry 0"},
};

int main(void)
{
    char path[64];
    CHECK_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    snprintf(strings_path, sizeof strings_path, "%s/strings", folder);
    struct buf text;
    fixture_tokenizer(&text);
    write_file(path, buf_head(&text), buf_len(&text));
    buf_done(&text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out = NULL;
        size_t len = 0;
        struct error err = {0};
        write_file(strings_path, cases[i].strings, strlen(cases[i].strings));
        FILE *f = open_memstream(&out, &len);
        CHECK_FATAL(f);
        enum status st = offline_tokenize(folder, strings_path, f, &err);
        fclose(f);
        CHECK_INT(st == OK, cases[i].ids != NULL);
        if (cases[i].ids)
            CHECK_STR(out, cases[i].ids);
        else
            CHECK(strstr(err.text, cases[i].error) && strstr(err.text, strings_path));
        free(out);
    }
    unlink(strings_path);
    unlink(path);
    rmdir(folder);
    return check_done();
}
