/* The grammar of a call's arguments in Qwen3-Coder's form: see coder_form.h. The engine thread. */
#ifndef WORKER_PLAN_CODER_H
#define WORKER_PLAN_CODER_H

#include "worker/grammar/grammar.h"
#include "worker/job.h"

struct coder_plan;

/* The tool's parameters are JSON, or "". INVALID: a strict schema asks for what a text cannot be
 * held to, or a name cannot be written; err begins with the place, which outlives the plan. */
enum status coder_plan_new(const struct tool *tool, const char *place, struct coder_plan **out,
                           struct error *err);
void coder_plan_free(struct coder_plan *p); /* NULL is fine */
/* All arguments; its parts are the plan's. */
struct grammar_part coder_plan_part(const struct coder_plan *p);
/* The value of the i-th parameter, if a schema decides it; else NULL. */
const struct grammar_part *coder_plan_schema(const struct coder_plan *p, int i);
int coder_plan_count(const struct coder_plan *p);
/* Its schema is not understood: it may be any text. */
void coder_plan_let(struct coder_plan *p, int i);

#endif
