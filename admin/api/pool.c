#include "admin/api/pool.h"

#include <pthread.h>
#include <signal.h>

#include "admin/api/api.h"

enum { THREADS_MAX = 16, CONNECT_TIMEOUT_MS = 5000 };

/* One call, from the loop to a thread and back. `ex` belongs to the loop's side alone. */
struct job {
    struct job *next;
    struct api_pool *pool;
    struct http_exchange *ex; /* NULL: the client has gone */
    struct arena *arena;
    const char *method, *path, *query, *body, *key, *peer;
    size_t body_len, key_len;
    int status;
    struct buf out;
};

struct api_pool {
    struct api_pool_options options;
    pthread_t threads[THREADS_MAX];
    int thread_count;
    int running; /* jobs on the way; loop thread alone */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct job *first, **last;
    bool stopping;
};

static void job_free(struct job *j)
{
    buf_done(&j->out);
    arena_free(j->arena); /* the job itself is in it */
}

/* On the loop: the answer is there. */
static void job_done(void *arg)
{
    struct job *j = arg;
    j->pool->running--;
    if (j->ex) {
        http_set_user(j->ex, NULL);
        http_reply(j->ex, j->status, NULL, 0, "application/json", buf_head(&j->out),
                   buf_len(&j->out));
    }
    job_free(j);
}

struct connections {
    struct pg *pg;
    struct redis_sync *redis;
};

static enum status connect_both(const struct api_pool *p, struct connections *c, struct error *err)
{
    if (c->pg && !pg_ok(c->pg)) {
        pg_free(c->pg);
        c->pg = NULL;
    }
    if (!c->pg)
        c->pg = pg_connect(p->options.database_url, CONNECT_TIMEOUT_MS, err);
    struct redis_options redis = {.url = p->options.redis_url,
                                  .password = p->options.redis_password,
                                  .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                  .command_timeout_ms = CONNECT_TIMEOUT_MS};
    struct error ignored; /* without Redis a change still reaches gateways through billing */
    if (!c->redis)
        c->redis = redis_sync_new(&redis, &ignored);
    return c->pg ? OK : UNAVAILABLE;
}

static void run_job(struct job *j, struct connections *c)
{
    struct api_call call = {.method = j->method,
                            .path = j->path,
                            .query = j->query,
                            .body = j->body,
                            .body_len = j->body_len,
                            .actor = {.source = j->peer}};
    buf_init(&call.out, API_BODY_MAX);
    enum status st = connect_both(j->pool, c, &call.err);
    if (st == OK)
        st = admin_key_find(c->pg, j->key, j->key_len, &call.who, &call.err);
    call.actor.name = call.who.name;
    call.pg = c->pg;
    call.redis = c->redis;
    if (st == OK) {
        api_run(&call, &j->status);
    } else {
        j->status = st == DENIED ? 401 : 503;
        api_error(&call.out, j->status,
                  st == DENIED ? "not a valid administrator's key" : "the database is away");
    }
    j->out = call.out;
}

static struct job *next_job(struct api_pool *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->first && !p->stopping)
        pthread_cond_wait(&p->more, &p->lock);
    struct job *j = p->first;
    if (j) {
        p->first = j->next;
        if (!p->first)
            p->last = &p->first;
    }
    pthread_mutex_unlock(&p->lock);
    return j;
}

static void *run_thread(void *arg)
{
    struct api_pool *p = arg;
    struct connections c = {0};
    struct job *j;
    while ((j = next_job(p))) {
        run_job(j, &c);
        if (loop_post(p->options.loop, job_done, j) != OK)
            abort(); /* the queue of posts is far longer than ours */
    }
    pg_free(c.pg);
    redis_sync_free(c.redis);
    return NULL;
}

struct api_pool *api_pool_new(const struct api_pool_options *options, struct error *err)
{
    struct api_pool *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, NOMEM, "out of memory");
        return NULL;
    }
    p->options = *options;
    p->last = &p->first;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    for (int i = 0; i < options->threads && i < THREADS_MAX; i++) {
        int failed = pthread_create(&p->threads[i], NULL, run_thread, p);
        if (failed) {
            error_errno(err, failed, "cannot start a thread");
            api_pool_free(p);
            return NULL;
        }
        p->thread_count++;
    }
    return p;
}

void api_pool_free(struct api_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->thread_count; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void refuse(struct http_exchange *ex, int status, const char *message)
{
    struct buf out;
    buf_init(&out, 4096);
    api_error(&out, status, message);
    http_reply(ex, status, NULL, 0, "application/json", buf_head(&out), buf_len(&out));
    buf_done(&out);
}

/* A copy of all that the call needs, since the exchange may go at any time. NULL: no memory. */
static struct job *make_job(struct api_pool *p, struct http_exchange *ex, const char *key)
{
    const struct http1_request *r = http_request(ex);
    size_t body_len;
    const uint8_t *body = http_body(ex, &body_len);
    struct arena *arena = arena_new(body_len + (1 << 20));
    struct job *j = arena ? arena_zalloc(arena, sizeof *j) : NULL;
    if (!j) {
        arena_free(arena);
        return NULL;
    }
    j->arena = arena;
    j->pool = p;
    j->ex = ex;
    j->method = arena_strdup(arena, r->method);
    j->path = arena_strdup(arena, r->path);
    j->query = r->query ? arena_strdup(arena, r->query) : NULL;
    j->body = arena_strndup(arena, (const char *)body, body_len);
    j->body_len = body_len;
    j->key = arena_strdup(arena, key);
    j->key_len = strlen(key);
    j->peer = arena_strdup(arena, http_peer(ex));
    buf_init(&j->out, API_BODY_MAX);
    if (j->method && j->path && (j->query || !r->query) && j->body && j->key && j->peer)
        return j;
    job_free(j);
    return NULL;
}

void api_pool_take(struct api_pool *p, struct http_exchange *ex)
{
    const char *authorization = http1_field(http_request(ex), "authorization");
    if (!authorization || strncmp(authorization, "Bearer ", 7) != 0) {
        refuse(ex, 401, "not a valid administrator's key");
        return;
    }
    struct job *j = p->running < p->options.queue_max ? make_job(p, ex, authorization + 7) : NULL;
    if (!j) {
        refuse(ex, 503, "too many calls at once; try again");
        return;
    }
    p->running++;
    http_set_user(ex, j);
    pthread_mutex_lock(&p->lock);
    *p->last = j;
    p->last = &j->next;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
}

void api_pool_closed(struct http_exchange *ex)
{
    struct job *j = http_user(ex);
    if (j)
        j->ex = NULL;
}
