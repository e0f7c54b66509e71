/* A tokenizer with a token for each byte, and the added tokens that chat templates need. Of
 * test_chat.c alone. */
#ifndef TESTS_UNIT_WORKER_BYTES_TOKENIZER_H
#define TESTS_UNIT_WORKER_BYTES_TOKENIZER_H

#include "base/buf.h"
#include "tests/unit/worker/text_fixture.h"
#include "worker/tokenizer_private.h"

static const char *const added[] = {"<｜begin▁of▁sentence｜>",
                                    "<｜end▁of▁sentence｜>",
                                    "<｜User｜>",
                                    "<｜Assistant｜>",
                                    "<｜tool▁calls▁begin｜>",
                                    "<｜tool▁calls▁end｜>",
                                    "<｜tool▁call▁begin｜>",
                                    "<｜tool▁call▁end｜>",
                                    "<｜tool▁sep｜>",
                                    "<｜tool▁outputs▁begin｜>",
                                    "<｜tool▁outputs▁end｜>",
                                    "<｜tool▁output▁begin｜>",
                                    "<｜tool▁output▁end｜>",
                                    "<think>",
                                    "</think>",
                                    "<|im_start|>",
                                    "<|im_end|>",
                                    "<|endoftext|>",
                                    "<tool_call>",
                                    "</tool_call>",
                                    "<|fim_prefix|>",
                                    "<|fim_suffix|>",
                                    "<|fim_middle|>",
                                    "<|begin_of_text|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eot_id|>",
                                    "<s>",
                                    "</s>"};

static const char *const mistral_added[] = {
    "[INST]",         "[/INST]",        "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]"};

/* calls: with the tokens of DeepSeek's calls too; mistral: with those of its later models. */
static struct tokenizer *bytes_tokenizer(bool calls, bool mistral)
{
    struct tokenizer *t = NULL;
    struct error err = {0};
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_adds(&b, "{\"pre_tokenizer\":" FIXTURE_BYTE_LEVEL ",\"added_tokens\":[");
    for (size_t i = 0; i < sizeof added / sizeof *added; i++)
        if (calls || !strstr(added[i], "tool▁"))
            buf_addf(&b, "%s{\"id\":%zu,\"content\":\"%s\"}", i ? "," : "", 256 + i, added[i]);
    for (size_t i = 0; mistral && i < sizeof mistral_added / sizeof *mistral_added; i++)
        buf_addf(&b, ",{\"id\":%zu,\"content\":\"%s\"}", 300 + i, mistral_added[i]);
    buf_adds(&b, "],\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
    for (int i = 0; i < 256; i++)
        buf_addf(&b, "%s\"\\u%04x\":%d", i ? "," : "", fixture_byte_char(i), i);
    buf_adds(&b, "}}}");
    CHECK_INT(tokenizer_parse((const char *)buf_head(&b), buf_len(&b), &t, &err), OK);
    CHECK_STR(err.text, "");
    buf_done(&b);
    CHECK_FATAL(t);
    return t;
}

#endif
