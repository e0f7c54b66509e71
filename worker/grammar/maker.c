#include "worker/grammar/maker.h"

#include <assert.h>

#include "worker/grammar/background.h"
#include "worker/grammar/private.h"

enum { WARM_MAX = 256 };

struct grammar_maker {
    const struct grammar_vocab *vocab;
    void (*wake)(void *arg);
    void *arg;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of what follows, and of the states' place, dropped and behind */
    pthread_cond_t work;
    struct grammar_state *first, *last; /* asked for */
    struct grammar *warm[WARM_MAX];     /* a ring */
    int warm_at, warm_count;
    bool stop;
};

/* ---- the thread; the lock is held on entry and exit ---- */

static void make_state(struct grammar_maker *m)
{
    struct grammar_state *s = m->first;
    m->first = s->behind;
    if (!m->first)
        m->last = NULL;
    s->place = STATE_AT_WORK;
    pthread_mutex_unlock(&m->lock);
    bool made = grammar_state_mask(s) != NULL;
    pthread_mutex_lock(&m->lock);
    s->failed = !made;
    s->place = STATE_OWNED;
    bool dropped = s->dropped;
    pthread_mutex_unlock(&m->lock);
    if (dropped)
        grammar_state_free(s);
    else if (m->wake)
        m->wake(m->arg);
    pthread_mutex_lock(&m->lock);
}

/* One mask of the grammar whose turn it is. */
static void make_ahead(struct grammar_maker *m)
{
    struct grammar *g = m->warm[m->warm_at];
    m->warm_at = (m->warm_at + 1) % WARM_MAX;
    m->warm_count--;
    pthread_mutex_unlock(&m->lock);
    bool more = grammar_warm_next(g, m->vocab) == OK;
    pthread_mutex_lock(&m->lock);
    if (more && m->warm_count < WARM_MAX) {
        m->warm[(m->warm_at + m->warm_count++) % WARM_MAX] = g;
        return;
    }
    pthread_mutex_unlock(&m->lock);
    grammar_unref(g);
    pthread_mutex_lock(&m->lock);
}

static void *run(void *arg)
{
    struct grammar_maker *m = arg;
    background_thread();
    pthread_mutex_lock(&m->lock);
    while (!m->stop) {
        if (m->first)
            make_state(m);
        else if (m->warm_count)
            make_ahead(m);
        else
            pthread_cond_wait(&m->work, &m->lock);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- its owner's side ---- */

enum status grammar_maker_new(const struct grammar_vocab *v, void (*wake)(void *arg), void *arg,
                              struct grammar_maker **out, struct error *err)
{
    struct grammar_maker *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(err, NOMEM, "out of memory");
    m->vocab = v;
    m->wake = wake;
    m->arg = arg;
    background_mutex_init(&m->lock);
    pthread_cond_init(&m->work, NULL);
    int rc = pthread_create(&m->thread, NULL, run, m);
    m->started = rc == 0;
    if (rc != 0) {
        grammar_maker_free(m);
        return error_errno(err, rc, "cannot start the thread for masks");
    }
    *out = m;
    return OK;
}

void grammar_maker_free(struct grammar_maker *m)
{
    if (!m)
        return;
    if (m->started) {
        pthread_mutex_lock(&m->lock);
        m->stop = true;
        pthread_cond_signal(&m->work);
        pthread_mutex_unlock(&m->lock);
        pthread_join(m->thread, NULL);
    }
    assert(!m->first);
    for (int i = 0; i < m->warm_count; i++)
        grammar_unref(m->warm[(m->warm_at + i) % WARM_MAX]);
    pthread_cond_destroy(&m->work);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

void grammar_maker_ask(struct grammar_maker *m, struct grammar_state *s)
{
    pthread_mutex_lock(&m->lock);
    assert(s->place == STATE_OWNED);
    s->place = STATE_ASKED;
    s->behind = NULL;
    *(m->last ? &m->last->behind : &m->first) = s;
    m->last = s;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->lock);
}

bool grammar_maker_done(struct grammar_maker *m, const struct grammar_state *s)
{
    pthread_mutex_lock(&m->lock);
    bool done = s->place == STATE_OWNED;
    pthread_mutex_unlock(&m->lock);
    return done;
}

static void leave_queue(struct grammar_maker *m, struct grammar_state *s)
{
    struct grammar_state **at = &m->first, *before = NULL;
    while (*at != s) {
        before = *at;
        at = &before->behind;
    }
    *at = s->behind;
    if (m->last == s)
        m->last = before;
    s->place = STATE_OWNED;
}

void grammar_maker_drop(struct grammar_maker *m, struct grammar_state *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&m->lock);
    if (s->place == STATE_ASKED)
        leave_queue(m, s);
    bool mine = s->place == STATE_OWNED;
    if (!mine)
        s->dropped = true;
    pthread_mutex_unlock(&m->lock);
    if (mine)
        grammar_state_free(s);
}

void grammar_maker_warm(struct grammar_maker *m, struct grammar *g)
{
    pthread_mutex_lock(&g->lock);
    bool first = !g->warm_asked;
    g->warm_asked = true;
    pthread_mutex_unlock(&g->lock);
    if (!first)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->warm_count < WARM_MAX) {
        m->warm[(m->warm_at + m->warm_count++) % WARM_MAX] = grammar_ref(g);
        pthread_cond_signal(&m->work);
    }
    pthread_mutex_unlock(&m->lock);
}
