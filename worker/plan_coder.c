#include "worker/plan_coder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/coder_form.h"

static const char closing[] = "\n</parameter>";

struct argument {
    char *head;
    struct grammar_part *texts;    /* what may stand there, if only these */
    struct grammar_part parts[3];  /* head, value, tail */
    struct grammar_part choice[2]; /* of an optional one: all that, or nothing */
};

struct coder_plan {
    struct coder_parameters parameters;
    struct argument *arguments;
    struct grammar_part *parts; /* of each argument */
};

static struct grammar_part literal(const char *text)
{
    return (struct grammar_part){.kind = GRAMMAR_LITERAL, .text = text, .len = strlen(text)};
}

static struct grammar_part any_text(void)
{
    return (struct grammar_part){.kind = GRAMMAR_TEXT, .text = closing, .len = sizeof closing - 1};
}

void coder_plan_free(struct coder_plan *p)
{
    if (!p)
        return;
    for (int i = 0; p->arguments && i < p->parameters.count; i++) {
        free(p->arguments[i].head);
        free(p->arguments[i].texts);
    }
    free(p->arguments);
    free(p->parts);
    coder_done(&p->parameters);
    free(p);
}

/* A strict schema is kept to the letter, or refused. */
static enum status check(const struct coder_parameter *c, const struct tool *tool,
                         const char *place, struct error *err)
{
    const uint32_t told_apart = CODER_STRING | CODER_BOOL | CODER_NULL;
    if (strpbrk(c->name, ">\n"))
        return error_set(err, INVALID,
                         "%s.properties: this model's calls cannot have a parameter \"%.40s\"",
                         place, c->name);
    for (int i = 0; i < c->text_count; i++)
        if (strstr(c->texts[i], closing))
            return error_set(err, INVALID,
                             "%s.properties.%.40s.enum: a value holds \"</parameter>\"", place,
                             c->name);
    if (!tool->strict || c->texts || !(c->types & CODER_STRING))
        return OK;
    if (c->keyword)
        return error_set(err, INVALID,
                         "%s.properties.%.40s.%s: not supported in this model's calls", place,
                         c->name, c->keyword);
    if (c->types & ~told_apart)
        return error_set(err, INVALID,
                         "%s.properties.%.40s: this model's calls do not tell a string from "
                         "another type",
                         place, c->name);
    return OK;
}

static enum status make_value(const struct coder_parameter *c, const struct tool *tool,
                              struct argument *a)
{
    struct grammar_part *value = &a->parts[1];
    if (c->texts) {
        a->texts = calloc((size_t)c->text_count, sizeof *a->texts);
        if (!a->texts)
            return NOMEM;
        for (int i = 0; i < c->text_count; i++)
            a->texts[i] = literal(c->texts[i]);
        *value = (struct grammar_part){
            .kind = GRAMMAR_CHOICE, .parts = a->texts, .count = (size_t)c->text_count};
    } else if (c->types & CODER_STRING) {
        *value = any_text();
    } else {
        *value = (struct grammar_part){.kind = GRAMMAR_SCHEMA,
                                       .text = c->schema,
                                       .len = strlen(c->schema),
                                       .strict = tool->strict};
    }
    return OK;
}

static enum status make_argument(const struct coder_parameter *c, const struct tool *tool,
                                 struct argument *a, struct grammar_part *part)
{
    size_t size = strlen(c->name) + sizeof "<parameter=>\n";
    a->head = malloc(size);
    if (!a->head)
        return NOMEM;
    snprintf(a->head, size, "<parameter=%s>\n", c->name);
    a->parts[0] = literal(a->head);
    a->parts[2] = literal("\n</parameter>\n");
    *part = (struct grammar_part){.kind = GRAMMAR_SEQUENCE, .parts = a->parts, .count = 3};
    if (!c->required) {
        a->choice[0] = *part;
        a->choice[1] = literal("");
        *part = (struct grammar_part){.kind = GRAMMAR_CHOICE, .parts = a->choice, .count = 2};
    }
    return make_value(c, tool, a);
}

enum status coder_plan_new(const struct tool *tool, const char *place, struct coder_plan **out,
                           struct error *err)
{
    struct coder_plan *p = calloc(1, sizeof *p);
    enum status st = p ? coder_read(tool->parameters, &p->parameters) : NOMEM;
    size_t count = st == OK ? (size_t)p->parameters.count : 0;
    if (st == OK && count) {
        p->arguments = calloc(count, sizeof *p->arguments);
        p->parts = calloc(count, sizeof *p->parts);
        st = p->arguments && p->parts ? OK : NOMEM;
    }
    for (size_t i = 0; i < count && st == OK; i++) {
        st = check(&p->parameters.items[i], tool, place, err);
        if (st == OK)
            st = make_argument(&p->parameters.items[i], tool, &p->arguments[i], &p->parts[i]);
    }
    if (st != OK) {
        coder_plan_free(p);
        return st;
    }
    *out = p;
    return OK;
}

struct grammar_part coder_plan_part(const struct coder_plan *p)
{
    if (!p->parameters.count)
        return literal("");
    return (struct grammar_part){
        .kind = GRAMMAR_SEQUENCE, .parts = p->parts, .count = (size_t)p->parameters.count};
}

int coder_plan_count(const struct coder_plan *p)
{
    return p->parameters.count;
}

const struct grammar_part *coder_plan_schema(const struct coder_plan *p, int i)
{
    const struct grammar_part *value = &p->arguments[i].parts[1];
    return value->kind == GRAMMAR_SCHEMA ? value : NULL;
}

void coder_plan_let(struct coder_plan *p, int i)
{
    p->arguments[i].parts[1] = any_text();
}
