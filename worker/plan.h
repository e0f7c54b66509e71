/*
 * What a request's answers must look like: the grammars of its format and of its tools' calls.
 * Made before any work is done, so that a schema that is wrong is refused with its place. Compiling
 * takes some 40 ms at most for a request: plan_orders.h does that on a thread of its own. Compiled
 * grammars are kept, by a digest of what they are made of, within a bound (plan_cache.h); their
 * masks are made ahead on another thread (grammar/maker.h).
 */
#ifndef WORKER_PLAN_H
#define WORKER_PLAN_H

#include "worker/chat.h"
#include "worker/grammar/maker.h"
#include "worker/job_wire.h"

struct planner; /* one a model */

struct planner_options {
    const struct tokenizer *tokenizer; /* it and the markers outlive the planner */
    const struct chat_markers *markers;
    uint32_t vocab;          /* of the model's logits */
    void (*wake)(void *arg); /* see grammar_maker_new; NULL: nobody waits for masks */
    void *wake_arg;
};

enum status planner_new(const struct planner_options *options, struct planner **out,
                        struct error *err);
void planner_free(struct planner *p); /* NULL is fine; joins the thread */

struct plan_tool {
    char *name;
    struct grammar *arguments; /* TOOLS_DEEPSEEK_31 only */
};

/* Read by worker/constraint.c. */
struct plan {
    const struct tokenizer *tokenizer;
    const struct chat_markers *markers;
    const struct grammar_vocab *vocab;
    struct grammar_maker *maker;
    uint32_t words;    /* of a mask */
    int32_t newline;   /* the token; -1: none */
    bool in_reasoning; /* the answer begins there; nothing is asked of reasoning */
    bool may_think;    /* it may begin reasoning by itself */
    bool never, required, one_call;
    struct grammar *format; /* of the content; NULL: any text */
    struct grammar *kind;   /* TOOLS_DEEPSEEK: the text in front of the sep */
    struct grammar *names;  /* TOOLS_DEEPSEEK_31: up to the sep */
    struct grammar *body;   /* the other forms: name and arguments */
    struct plan_tool *tools;
    int tool_count;
};

/* *out NULL: anything goes. INVALID: see *fault; LIMITED: the plans in use leave no room; NOMEM.
 * Any thread. */
enum status planner_plan(struct planner *p, const struct job *job, bool starts_in_reasoning,
                         struct plan **out, struct job_fault *fault);
/* The same from what is kept, or UNAVAILABLE: something must be compiled first, or is long. */
enum status planner_find(struct planner *p, const struct job *job, bool starts_in_reasoning,
                         struct plan **out, struct job_fault *fault);
void plan_free(struct plan *plan); /* NULL is fine */

#endif
