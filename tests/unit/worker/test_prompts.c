#include "worker/prompts.h"

#include <unistd.h>

#include "tests/unit/worker/text_fixture.h"

static char folder[] = "/tmp/test_prompts.XXXXXX";

static void write_file(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "w");
    CHECK_FATAL(f);
    CHECK(fwrite(data, 1, len, f) == len);
    fclose(f);
}

/* `ids` of all prompts, each ended by -1; NULL: an error that holds `error`. */
static const struct {
    const char *name, *text, *error;
    int32_t ids[8];
} cases[] = {
    {"p.json", "[[1, 2], [3]]", NULL, {1, 2, -1, 3, -1}},
    {"p.json", "[[399]]", NULL, {399, -1}},
    {"p.json", "[[400]]", "p.json: prompt 0: entry 0 is not an id below 400", {0}},
    {"p.json", "[[1], [2, -1]]", "prompt 1: entry 1", {0}},
    {"p.json", "[[1.5]]", "prompt 0: entry 0", {0}},
    {"p.json", "[[\"a\"]]", "prompt 0: entry 0", {0}},
    {"p.json", "[[]]", "prompt 0 is empty", {0}},
    {"p.json", "[]", "not an array of prompts", {0}},
    {"p.json", "{}", "not an array of prompts", {0}},
    {"p.json", "[1]", "prompt 0 is not an array of ids", {0}},
    {"p.json", "[[1]", "p.json: ", {0}},
    {"p.json", "[[1,2,3,4,5,6,7]]", "prompt 0 has 7 tokens, at most 6", {0}},
    {"p.json", "[\"ab\", [7], \"<end>a\"]", NULL, {256, -1, 7, -1, 302, 97, -1}},
    {"p.json", "[\"\"]", "prompt 0 is empty", {0}},
    {"p.json", "[\"axaxaxax\"]", "prompt 0 has more than 6 tokens", {0}},
    {"p.txt", "ab<end>", NULL, {256, 302, -1}},
    {"p.txt", "[[1]]", NULL, {91, 91, 49, 93, 93, -1}},
    {"p.txt", "", "prompt 0 is empty", {0}},
    {"p.txt", "\xff", "prompt 0 is not UTF-8", {0}},
};

static void check_ids(const struct prompts *p, const int32_t *want)
{
    for (uint32_t i = 0; i < p->count; i++) {
        for (uint32_t j = 0; j < p->items[i].count; j++)
            CHECK_INT(p->items[i].ids[j], *want++);
        CHECK_INT(*want++, -1);
    }
}

static void check_case(size_t i)
{
    char path[64];
    struct prompts p = {0};
    struct error err = {""};
    struct prompts_limits limits = {400, 6};
    snprintf(path, sizeof path, "%s/%s", folder, cases[i].name);
    write_file(path, cases[i].text, strlen(cases[i].text));
    enum status st = prompts_read_texts(path, folder, &limits, &p, &err);
    if (st != OK)
        CHECK(cases[i].error && strstr(err.text, cases[i].error) && strstr(err.text, path));
    else
        CHECK(!cases[i].error);
    check_ids(&p, cases[i].ids);
    prompts_free(&p);
    unlink(path);
}

static void test_ids_need_no_tokenizer(void)
{
    char path[64];
    struct prompts p = {0};
    struct error err = {""};
    struct prompts_limits limits = {400, 6};
    snprintf(path, sizeof path, "%s/p.json", folder);
    write_file(path, "[[1]]", 5);
    CHECK_INT(prompts_read_texts(path, "/nowhere", &limits, &p, &err), OK);
    prompts_free(&p);
    write_file(path, "[\"a\"]", 5);
    CHECK(prompts_read_texts(path, "/nowhere", &limits, &p, &err) != OK);
    CHECK(strstr(err.text, "/nowhere/tokenizer.json") != NULL);
    CHECK_INT(prompts_read(path, &limits, &p, &err), INVALID);
    unlink(path);
    CHECK(prompts_read_texts(path, folder, &limits, &p, &err) != OK);
    CHECK(strstr(err.text, path) != NULL);
}

int main(void)
{
    char path[64];
    CHECK_FATAL(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    struct buf text;
    fixture_tokenizer(&text);
    write_file(path, buf_head(&text), buf_len(&text));
    buf_done(&text);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_case(i);
    test_ids_need_no_tokenizer();
    unlink(path);
    rmdir(folder);
    return check_done();
}
