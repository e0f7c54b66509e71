/*
 * Runs an automaton over bytes: a set of threads, each a node, a stack of calls to return from and,
 * in strings, counts of the characters still needed and still allowed. Sets lie one after the other
 * in one array, frames of stacks in another; both shrink back to a mark, so that a search through a
 * tree of bytes needs no memory of its own. One owner.
 */
#ifndef WORKER_GRAMMAR_MACHINE_H
#define WORKER_GRAMMAR_MACHINE_H

#include "worker/grammar/automaton.h"
#include "worker/grammar/trie.h"

enum {
    MACHINE_THREADS_MAX = 512, /* of a set; further ways to read the text are given up */
    MACHINE_FILTER_BITS = 4096,
    MACHINE_BOTTOM = 0, /* the frame below all: the end of the grammar */
};

struct frame {
    uint32_t parent, ret; /* the node to go on at */
    uint32_t depth;       /* frames below */
    uint64_t digest;      /* of its ret and those below */
};

struct thread {
    uint32_t node, stack;
    uint32_t least, most; /* characters; 0 outside of strings */
};

struct set {
    uint32_t first, count; /* in machine.threads */
    bool ended;            /* some thread returned from the bottom frame */
};

struct machine {
    const struct automaton *automaton;
    uint32_t depth_max;
    struct frame *frames;
    struct thread *threads;
    uint32_t frame_count, frame_size;
    uint32_t thread_count, thread_size;
    struct mark { /* by depth in a tree: the set there, and the frames it may use */
        struct set set;
        uint32_t frames;
    } * path;
    uint32_t path_size;
    bool failed;             /* out of memory: sets since then lack threads */
    uint64_t work, work_max; /* some 5 ns each; past the limit a walk ends where it is */
    uint64_t filter[MACHINE_FILTER_BITS / 64]; /* of a large set's threads: see add() */
};

static inline bool machine_spent(const struct machine *m)
{
    return m->work > m->work_max;
}

/* path_size: depths of trees that machine_walk is given. False: out of memory. */
bool machine_init(struct machine *m, const struct automaton *a, uint32_t path_size);
void machine_done(struct machine *m);

static inline uint64_t machine_mix(uint64_t digest, uint64_t x)
{
    digest = (digest ^ x) * 0x9e3779b97f4a7c15u;
    return digest ^ digest >> 32;
}

/* What follows from one thread without reading a byte, as a set at the array's end. */
struct set machine_enter(struct machine *m, struct thread t);
/* The threads to go on with after a thread's rule has ended. */
struct set machine_return(struct machine *m, uint32_t stack);
/* What follows from a set by one byte, at the array's end. */
struct set machine_step(struct machine *m, const struct set *from, uint8_t byte);
struct machine_visit { /* called at each node of a tree that the automaton can reach */
    void (*node)(void *arg, uint32_t node, const struct set *set);
    void *arg;
};
/* Reads the bytes below a node of a tree, from a set that lies at the array's end. Afterwards the
 * arrays are as before. */
void machine_walk(struct machine *m, const struct trie *t, uint32_t top, struct set start,
                  struct machine_visit visit);
/* Drops frames that no thread of the first thread_count needs. */
void machine_compact(struct machine *m);

#endif
