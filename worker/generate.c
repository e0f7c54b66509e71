#include "worker/generate.h"

struct generate {
    FILE *out;
    bool done, reasoning;
    enum status status;
    struct error *err;
};

static void on_tokens(void *arg, uint64_t job, uint32_t choice, const struct delta_view *made,
                      const struct counts *counts)
{
    struct generate *g = arg;
    size_t content = made->len[DELTA_CONTENT], reasoning = made->len[DELTA_REASONING];
    if (reasoning > 0 && !g->reasoning) {
        fputs("<think>", g->out);
        g->reasoning = true;
    }
    if (reasoning > 0)
        fwrite(made->data[DELTA_REASONING], 1, reasoning, g->out);
    if (content > 0 && g->reasoning) {
        fputs("</think>", g->out);
        g->reasoning = false;
    }
    if (content > 0)
        fwrite(made->data[DELTA_CONTENT], 1, content, g->out);
    fflush(g->out);
}

static void on_finish(void *arg, uint64_t job, enum job_end end, const struct counts *counts)
{
    struct generate *g = arg;
    g->done = true;
}

static void on_fail(void *arg, uint64_t job, enum job_error code, const char *message,
                    const char *param, const struct counts *counts)
{
    struct generate *g = arg;
    g->done = true;
    g->status = error_set(g->err, INVALID, "%s", message);
}

enum status generate_run(const struct cpu_options *cpu, const struct generate_options *options,
                         FILE *out, struct error *err)
{
    struct generate g = {.out = out, .err = err};
    struct sink sink = {.tokens = on_tokens, .finish = on_finish, .fail = on_fail, .arg = &g};
    struct backend *b = backend_cpu_new(cpu, &sink, err);
    if (!b)
        return INVALID;
    struct chat_message message = {.role = "user",
                                   .content = options->prompt,
                                   .reasoning_content = "",
                                   .name = "",
                                   .tool_call_id = ""};
    struct job job = {.id = 1,
                      .messages = &message,
                      .message_count = 1,
                      .choices = 1,
                      .tool_name = "",
                      .schema = "",
                      .tenant = "",
                      .max_tokens = (uint32_t)options->tokens,
                      .sampling = {.temperature = options->temperature, .top_p = 1},
                      .thinking = options->thinking};
    b->ops->submit(b, &job);
    while (!g.done && b->ops->step(b))
        ;
    if (g.done && g.status == OK)
        fputc('\n', out);
    fflush(out); /* the counts come behind the answer */
    struct backend_load load;
    b->ops->load(b, &load);
    if (load.drafted > 0)
        fprintf(stderr, "%llu of %llu tokens guessed ahead were right\n",
                (unsigned long long)load.accepted, (unsigned long long)load.drafted);
    b->ops->free(b);
    if (g.status == OK && (fflush(out) != 0 || ferror(out)))
        return error_set(err, IO_FAILED, "cannot write the answer");
    return g.done ? g.status : error_set(err, UNAVAILABLE, "the engine stopped");
}
