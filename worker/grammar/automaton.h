/*
 * The automaton behind a grammar: rules, each a graph of nodes with edges over bytes and calls of
 * other rules, so that together they describe nested text. Not deterministic: several edges and
 * calls may apply at once, and machine.h follows them all.
 *
 * Built by appending; after a failure the calls below do nothing and `status` tells which it was.
 * automaton_finish computes what keeps a text completable: nodes from which no end can be reached
 * are never entered, nor are those that would nest too deep or need more characters than are left.
 */
#ifndef WORKER_GRAMMAR_AUTOMATON_H
#define WORKER_GRAMMAR_AUTOMATON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    GRAMMAR_NONE = UINT32_MAX,
    GRAMMAR_DEPTH = 64, /* frames of the stack */
    GRAMMAR_COST_INF = UINT32_MAX,
};

enum node_flags {
    NODE_ACCEPT = 1, /* its rule may end here */
    NODE_TAIL = 2,   /* nothing else may happen here: a call that returns to it needs no frame */
    NODE_STRING = 4, /* in a string: the thread's counts of characters matter */
    NODE_CHAR = 8,   /* every edge but '"' begins a character of the string */
    NODE_CALLS = 16, /* from here on its rule may make calls */
};

struct edge {
    uint32_t to;
    uint8_t lo, hi;
};

struct call {
    uint32_t rule; /* GRAMMAR_NONE: no call, go on at `to` */
    uint32_t to;
    uint32_t least, most; /* characters of a string */
};

struct node {
    uint32_t edge, call; /* the first of each; while building, a list's head */
    uint16_t edges, calls;
    uint16_t height; /* frames that the way to the rule's end needs */
    uint8_t flags;
    uint32_t need; /* characters to come, for nodes in strings */
    uint32_t cost; /* bytes of a short way to the rule's end */
};

struct rule {
    uint32_t start;
    char *place; /* for errors; NULL: cannot fail */
};

struct edge_link {
    struct edge edge;
    uint32_t next;
};
struct call_link {
    struct call call;
    uint32_t next;
};

struct automaton {
    struct node *nodes;
    struct rule *rules;
    struct edge_link *edge_links; /* while building */
    struct call_link *call_links;
    struct edge *edges; /* after automaton_finish */
    struct call *calls;
    uint32_t node_count, node_size, node_max;
    uint32_t rule_count, rule_size;
    uint32_t edge_count, edge_size;
    uint32_t call_count, call_size;
    uint32_t height_max; /* over all nodes that can end */
    uint64_t work, work_max;
    enum status status; /* OK, NOMEM, LIMITED */
};

void automaton_init(struct automaton *a, uint32_t node_max, uint64_t work_max);
void automaton_done(struct automaton *a);

uint32_t automaton_node(struct automaton *a);
uint32_t automaton_rule(struct automaton *a, const char *place);    /* with a start node */
uint32_t automaton_start(const struct automaton *a, uint32_t rule); /* 0 after a failure */
void automaton_edge(struct automaton *a, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void automaton_jump(struct automaton *a, uint32_t from, uint32_t to);
void automaton_call(struct automaton *a, uint32_t from, uint32_t rule, uint32_t to);
void automaton_call_string(struct automaton *a, uint32_t from, struct call call);
/* The node behind the text. */
uint32_t automaton_text(struct automaton *a, uint32_t from, const char *text, size_t len);
/* The same, along edges of single bytes that are there already: for trees of texts. */
uint32_t automaton_branch(struct automaton *a, uint32_t from, const char *text, size_t len);
void automaton_flag(struct automaton *a, uint32_t node, int flags);
/* Counts steps of compiling; false once there were too many, or after another failure. */
bool automaton_work(struct automaton *a, uint64_t steps);

/* INVALID names the place of a rule that has no end; LIMITED. */
enum status automaton_finish(struct automaton *a, struct error *err);
size_t automaton_bytes(const struct automaton *a);

#endif
