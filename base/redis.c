/*
 * The asynchronous client: a socket, two lists of commands and three timers.
 *
 *   CONNECTING: the hello (AUTH, SELECT, PING) is under way; commands wait, encoded, in `out`
 *   CONNECTED:  commands are written as they come; `sent` awaits replies in order
 *   BROKEN:     a pause; commands are answered UNAVAILABLE
 *
 * hiredis parses the replies (base/redis_codec.c). Its own asynchronous client is not used: in
 * the versions at hand it has no deadlines.
 */
#include "base/redis.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/redis_internal.h"

enum {
    OUT_BYTES_MAX = 64 << 20,
    PAUSE_LEAST_MS = 50,
    PAUSE_MOST_MS = 2000,
    LISTENER_PING_MS = 500,
    SPARE_MAX = 1024,
    SPARE_LEAST = 256,
};

struct command {
    struct command *next;
    redis_fn *fn;
    void *arg;
    int64_t deadline_ms;
    struct redis_script *script; /* EVALSHA: what to send on NOSCRIPT */
    uint8_t *tail;               /* its arguments behind the script, encoded */
    size_t tail_len;
    int argc;
};

struct command_list {
    struct command *first, **last;
};

struct redis {
    struct loop *loop;
    struct redis_address address;
    char *password;
    int64_t connect_timeout_ms, command_timeout_ms;
    redis_state_fn *on_state;
    void *on_state_arg;
    enum redis_state state;
    int fd;
    struct loop_io *io;
    bool socket_up;
    int hello_left; /* replies to the hello still to come */
    struct buf hello, out;
    struct redis_codec codec;
    struct command_list sent, waiting, refused;
    struct loop_timer *deadline, *again, *soon;
    bool deadline_armed, write_failed, busy;
    int64_t connect_deadline_ms, pause_ms;
    char *channel; /* a listener */
    redis_fn *message_fn;
    void *message_arg;
    int64_t heard_ms;
    struct command *spare; /* a list; some are made at the start, for when memory is out */
    int spare_count;
};

static void list_init(struct command_list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_add(struct command_list *l, struct command *c)
{
    c->next = NULL;
    *l->last = c;
    l->last = &c->next;
}

static struct command *list_take(struct command_list *l)
{
    struct command *c = l->first;
    if (c) {
        l->first = c->next;
        if (!l->first)
            l->last = &l->first;
    }
    return c;
}

static void list_move(struct command_list *to, struct command_list *from)
{
    struct command *c;
    while ((c = list_take(from)))
        list_add(to, c);
}

static void command_free(struct redis *r, struct command *c)
{
    redis_script_free(c->script);
    free(c->tail);
    if (r->spare_count >= SPARE_MAX) {
        free(c);
        return;
    }
    *c = (struct command){.next = r->spare};
    r->spare = c;
    r->spare_count++;
}

static void answer(struct redis *r, struct command *c, enum status st,
                   const struct redis_reply *reply)
{
    bool was_busy = r->busy;
    r->busy = true;
    if (c->fn)
        c->fn(st, reply, c->arg);
    r->busy = was_busy;
    command_free(r, c);
}

static void set_state(struct redis *r, enum redis_state state)
{
    static const bool allowed[3][3] = {
        [REDIS_CONNECTING] = {[REDIS_CONNECTED] = true, [REDIS_BROKEN] = true},
        [REDIS_CONNECTED] = {[REDIS_BROKEN] = true},
        [REDIS_BROKEN] = {[REDIS_CONNECTING] = true},
    };
    assert(allowed[r->state][state]);
    r->state = state;
    if (r->on_state) {
        bool was_busy = r->busy;
        r->busy = true;
        r->on_state(state, r->on_state_arg);
        r->busy = was_busy;
    }
}

static void close_socket(struct redis *r)
{
    loop_io_free(r->io);
    r->io = NULL;
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    r->socket_up = false;
    r->hello_left = 0;
    r->write_failed = false;
    buf_clear(&r->hello);
    buf_clear(&r->out);
    redis_codec_done(&r->codec);
}

/* Ends the connection or the attempt at one. What was written has an unknown outcome; what was
 * not is UNAVAILABLE. */
static void break_connection(struct redis *r)
{
    struct command_list sent, waiting;
    list_init(&sent);
    list_init(&waiting);
    list_move(&sent, &r->sent);
    list_move(&waiting, &r->waiting);
    close_socket(r);
    loop_timer_stop(r->deadline);
    r->deadline_armed = false;
    int64_t pause_ms = r->pause_ms;
    r->pause_ms = pause_ms * 2 > PAUSE_MOST_MS ? PAUSE_MOST_MS : pause_ms * 2;
    loop_timer_start(r->again, pause_ms);
    set_state(r, REDIS_BROKEN);
    int64_t now_ms = loop_now_ms(r->loop);
    struct command *c;
    while ((c = list_take(&sent)))
        answer(r, c, c->deadline_ms <= now_ms ? TIMED_OUT : CLOSED, NULL);
    while ((c = list_take(&waiting)))
        answer(r, c, UNAVAILABLE, NULL);
}

static void arm_deadline(struct redis *r, int64_t at_ms)
{
    if (r->deadline_armed)
        return;
    r->deadline_armed = true;
    loop_timer_start(r->deadline, at_ms - loop_now_ms(r->loop));
}

/* Commands have one timeout, so the oldest is due first. */
static void deadline_due(void *arg)
{
    struct redis *r = arg;
    r->deadline_armed = false;
    int64_t now_ms = loop_now_ms(r->loop);
    int64_t next_ms = 0;
    if (r->state == REDIS_CONNECTING)
        next_ms = r->connect_deadline_ms;
    else if (r->channel)
        next_ms = r->heard_ms + LISTENER_PING_MS + r->command_timeout_ms;
    else if (r->sent.first)
        next_ms = r->sent.first->deadline_ms;
    else
        return;
    if (next_ms <= now_ms)
        break_connection(r);
    else
        arm_deadline(r, next_ms);
}

/* false: the connection is lost; the caller decides when to say so. */
static bool write_out(struct redis *r, struct buf *b)
{
    while (buf_len(b)) {
        ssize_t n = send(r->fd, buf_head(b), buf_len(b), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0)
            return false;
        buf_eat(b, (size_t)n);
    }
    bool more = buf_len(&r->hello) || (r->state == REDIS_CONNECTED && buf_len(&r->out));
    loop_io_want(r->io, LOOP_READ | (more ? LOOP_WRITE : 0));
    return true;
}

static enum status put_command(struct buf *out, int argc, const char *const *argv,
                               const size_t *lens)
{
    enum status st = redis_put_head(out, argc);
    for (int i = 0; i < argc && st == OK; i++)
        st = redis_put_arg(out, argv[i], lens ? lens[i] : strlen(argv[i]));
    return st;
}

static void listener_ping(struct redis *r)
{
    static const char *const ping[] = {"PING"};
    if (buf_len(&r->out) == 0 && put_command(&r->out, 1, ping, NULL) == OK &&
        !write_out(r, &r->out))
        break_connection(r);
    else
        loop_timer_start(r->again, LISTENER_PING_MS);
}

static void established(struct redis *r)
{
    r->pause_ms = PAUSE_LEAST_MS;
    loop_timer_stop(r->deadline);
    r->deadline_armed = false;
    r->heard_ms = loop_now_ms(r->loop);
    int64_t deadline_ms = r->heard_ms + r->command_timeout_ms;
    for (struct command *c = r->waiting.first; c; c = c->next)
        c->deadline_ms = deadline_ms; /* their time runs from when they are sent */
    list_move(&r->sent, &r->waiting);
    set_state(r, REDIS_CONNECTED);
    if (r->channel) {
        arm_deadline(r, deadline_ms + LISTENER_PING_MS);
        loop_timer_start(r->again, LISTENER_PING_MS);
    } else if (r->sent.first) {
        arm_deadline(r, deadline_ms);
    }
    if (!write_out(r, &r->out))
        r->write_failed = true;
}

static bool is_word(const struct redis_reply *reply, const char *word)
{
    return reply->type == REDIS_STRING && strcmp(reply->text, word) == 0;
}

/* false: the other side does not speak as it should. */
static bool hear(struct redis *r, const struct redis_reply *reply)
{
    r->heard_ms = loop_now_ms(r->loop);
    if (reply->type != REDIS_ARRAY || reply->count < 2)
        return false;
    if (reply->count == 3 && is_word(&reply->items[0], "message") &&
        reply->items[2].type == REDIS_STRING) {
        r->busy = true;
        r->message_fn(OK, &reply->items[2], r->message_arg);
        r->busy = false;
    }
    return true;
}

static enum status resend_with_text(struct redis *r, struct command *c)
{
    const struct redis_script *s = c->script;
    enum status st = redis_put_head(&r->out, c->argc);
    if (st == OK)
        st = redis_put_arg(&r->out, "EVAL", 4);
    if (st == OK)
        st = redis_put_arg(&r->out, s->text, s->len);
    if (st == OK)
        st = buf_add(&r->out, c->tail, c->tail_len);
    redis_script_free(c->script);
    c->script = NULL;
    c->deadline_ms = loop_now_ms(r->loop) + r->command_timeout_ms;
    list_add(&r->sent, c);
    return st;
}

static bool take_reply(struct redis *r, const struct redis_reply *reply)
{
    if (r->hello_left > 0) {
        if (reply->type == REDIS_ERROR)
            return false;
        if (--r->hello_left == 0)
            established(r);
        return true;
    }
    if (r->channel)
        return hear(r, reply);
    struct command *c = list_take(&r->sent);
    if (!c)
        return false;
    if (c->script && redis_is_noscript(reply))
        return resend_with_text(r, c) == OK && write_out(r, &r->out);
    answer(r, c, OK, reply);
    return true;
}

/* false: the connection is lost. */
static bool read_in(struct redis *r)
{
    enum { READ_BYTES = 64 * 1024 };
    static _Thread_local char bytes[READ_BYTES];
    ssize_t n;
    do
        n = recv(r->fd, bytes, sizeof bytes, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK;
    if (n == 0 || redis_codec_feed(&r->codec, bytes, (size_t)n) != OK)
        return false;
    for (;;) {
        const struct redis_reply *reply = NULL;
        enum status st = redis_codec_next(&r->codec, &reply);
        if (st != OK)
            return st == NOT_FOUND;
        bool fine = take_reply(r, reply);
        redis_codec_drop(&r->codec);
        if (!fine)
            return false;
    }
}

static bool socket_connected(struct redis *r)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
        return false;
    r->socket_up = true;
    return write_out(r, &r->hello);
}

static void socket_ready(int fd, int ready, void *arg)
{
    struct redis *r = arg;
    bool fine = true;
    if (!r->socket_up) {
        fine = socket_connected(r);
    } else {
        if (ready & LOOP_READ)
            fine = read_in(r);
        if (fine && (ready & LOOP_WRITE))
            fine = write_out(r, r->state == REDIS_CONNECTED ? &r->out : &r->hello);
    }
    if (!fine || r->write_failed)
        break_connection(r);
}

static enum status put_greeting(struct redis *r)
{
    enum status st = redis_put_hello(&r->hello, &r->address, r->password, &r->hello_left);
    if (st == OK && r->channel) {
        st = put_command(&r->hello, 2, (const char *const[]){"SUBSCRIBE", r->channel}, NULL);
        r->hello_left++;
    }
    return st;
}

/* Begins an attempt; its failure is handled like that of any connection. */
static void start_connect(struct redis *r)
{
    r->connect_deadline_ms = loop_now_ms(r->loop) + r->connect_timeout_ms;
    r->fd = redis_address_connect(&r->address, NULL);
    if (r->fd >= 0)
        r->io = loop_io_new(r->loop, r->fd, socket_ready, r);
    if (!r->io || redis_codec_init(&r->codec) != OK || put_greeting(r) != OK) {
        r->write_failed = true;
        loop_timer_start(r->soon, 0);
        return;
    }
    loop_io_want(r->io, LOOP_WRITE);
    arm_deadline(r, r->connect_deadline_ms);
}

static void again_due(void *arg)
{
    struct redis *r = arg;
    if (r->state == REDIS_CONNECTED && r->channel) {
        listener_ping(r);
    } else if (r->state == REDIS_BROKEN) {
        set_state(r, REDIS_CONNECTING);
        start_connect(r);
    }
}

/* What could not be done inside a call of the user's. */
static void soon_due(void *arg)
{
    struct redis *r = arg;
    struct command_list refused;
    list_init(&refused);
    list_move(&refused, &r->refused);
    if (r->write_failed)
        break_connection(r);
    struct command *c;
    while ((c = list_take(&refused)))
        answer(r, c, UNAVAILABLE, NULL);
}

static bool prepare(struct redis *r, const char *password)
{
    r->deadline = loop_timer_new(r->loop, deadline_due, r);
    r->again = loop_timer_new(r->loop, again_due, r);
    r->soon = loop_timer_new(r->loop, soon_due, r);
    if (password)
        r->password = strdup(password);
    if (!r->deadline || !r->again || !r->soon || (password && !r->password))
        return false;
    while (r->spare_count < SPARE_LEAST) {
        struct command *c = calloc(1, sizeof *c);
        if (!c)
            return false;
        command_free(r, c);
    }
    return true;
}

struct redis *redis_new(struct loop *loop, const struct redis_options *options, struct error *err)
{
    struct redis_address address;
    if (redis_address_parse(options->url, &address, err) != OK)
        return NULL;
    struct redis *r = calloc(1, sizeof *r);
    if (!r)
        goto no_memory;
    r->loop = loop;
    r->address = address;
    r->connect_timeout_ms = options->connect_timeout_ms;
    r->command_timeout_ms = options->command_timeout_ms;
    r->on_state = options->on_state;
    r->on_state_arg = options->arg;
    r->fd = -1;
    r->pause_ms = PAUSE_LEAST_MS;
    buf_init(&r->hello, 4096);
    buf_init(&r->out, OUT_BYTES_MAX);
    list_init(&r->sent);
    list_init(&r->waiting);
    list_init(&r->refused);
    if (!prepare(r, options->password))
        goto no_memory;
    start_connect(r);
    return r;
no_memory:
    error_set(err, NOMEM, "out of memory for a Redis connection");
    redis_free(r);
    return NULL;
}

void redis_free(struct redis *r)
{
    if (!r)
        return;
    assert(!r->busy); /* a callback does not free the object it was called for */
    struct command *c;
    r->on_state = NULL;
    close_socket(r);
    r->state = REDIS_BROKEN;
    while ((c = list_take(&r->sent)) || (c = list_take(&r->waiting)) ||
           (c = list_take(&r->refused)))
        answer(r, c, CLOSED, NULL);
    while ((c = r->spare)) {
        r->spare = c->next;
        free(c);
    }
    loop_timer_free(r->deadline);
    loop_timer_free(r->again);
    loop_timer_free(r->soon);
    buf_done(&r->hello);
    buf_done(&r->out);
    if (r->password)
        explicit_bzero(r->password, strlen(r->password));
    explicit_bzero(&r->address, sizeof r->address);
    free(r->password);
    free(r->channel);
    free(r);
}

enum redis_state redis_state(const struct redis *r)
{
    return r->state;
}

static void refuse(struct redis *r, struct command *c)
{
    list_add(&r->refused, c);
    loop_timer_start(r->soon, 0);
}

/* The command's bytes are in `out`; start is where they began, st whether they all fit. */
static void enqueue(struct redis *r, struct command *c, size_t bytes_before, enum status st)
{
    if (st != OK) {
        r->out.end = r->out.start + bytes_before;
        refuse(r, c);
        return;
    }
    c->deadline_ms = loop_now_ms(r->loop) + r->command_timeout_ms;
    if (r->state == REDIS_CONNECTING) {
        list_add(&r->waiting, c);
        return;
    }
    list_add(&r->sent, c);
    arm_deadline(r, c->deadline_ms);
    /* With bytes still waiting, the socket is full and LOOP_WRITE is wanted already. */
    if (bytes_before == 0 && !r->write_failed && !write_out(r, &r->out)) {
        r->write_failed = true;
        loop_timer_start(r->soon, 0);
    }
}

/* NULL: memory is out, the spare ones too, and fn has been told. */
static struct command *new_command(struct redis *r, redis_fn *fn, void *arg)
{
    struct command *c = r->spare;
    if (c) {
        r->spare = c->next;
        r->spare_count--;
    } else {
        c = malloc(sizeof *c);
    }
    if (!c) {
        if (fn)
            fn(UNAVAILABLE, NULL, arg);
        return NULL;
    }
    *c = (struct command){.fn = fn, .arg = arg};
    return c;
}

void redis_command(struct redis *r, redis_fn *fn, void *arg, int argc, const char *const *argv,
                   const size_t *lens)
{
    assert(!r->channel && argc > 0);
    struct command *c = new_command(r, fn, arg);
    if (!c)
        return;
    if (r->state == REDIS_BROKEN) {
        refuse(r, c);
        return;
    }
    size_t before = buf_len(&r->out);
    enqueue(r, c, before, put_command(&r->out, argc, argv, lens));
}

static enum status put_eval(struct buf *out, const struct redis_script *s, int keys, int argc,
                            const char *const *argv, const size_t *lens, size_t *tail_at)
{
    char count[16];
    int n = snprintf(count, sizeof count, "%d", keys);
    enum status st = redis_put_head(out, 3 + argc);
    if (st == OK)
        st = redis_put_arg(out, "EVALSHA", 7);
    if (st == OK)
        st = redis_put_arg(out, s->sha, 40);
    *tail_at = buf_len(out);
    if (st == OK)
        st = redis_put_arg(out, count, (size_t)n);
    for (int i = 0; i < argc && st == OK; i++)
        st = redis_put_arg(out, argv[i], lens ? lens[i] : strlen(argv[i]));
    return st;
}

void redis_eval(struct redis *r, const struct redis_script *s, int keys, int argc,
                const char *const *argv, const size_t *lens, redis_fn *fn, void *arg)
{
    assert(!r->channel && keys <= argc);
    struct command *c = new_command(r, fn, arg);
    if (!c)
        return;
    if (r->state == REDIS_BROKEN) {
        refuse(r, c);
        return;
    }
    size_t before = buf_len(&r->out), tail_at = 0;
    enum status st = put_eval(&r->out, s, keys, argc, argv, lens, &tail_at);
    if (st == OK) {
        c->tail_len = buf_len(&r->out) - tail_at;
        c->tail = malloc(c->tail_len);
        c->script = c->tail ? redis_script_ref(s)
                            : NULL; /* without a copy a NOSCRIPT stands as the answer */
        c->argc = 3 + argc;
        if (c->tail)
            memcpy(c->tail, buf_head(&r->out) + tail_at, c->tail_len);
    }
    enqueue(r, c, before, st);
}

enum status redis_subscribe(struct redis *r, const char *channel, redis_fn *fn, void *arg)
{
    assert(!r->channel && !r->sent.first && !r->waiting.first);
    r->channel = strdup(channel);
    if (!r->channel)
        return NOMEM;
    r->message_fn = fn;
    r->message_arg = arg;
    if (r->state == REDIS_BROKEN)
        return OK;
    /* An attempt is under way: its greeting is not out yet in the turn that made it. */
    assert(r->state == REDIS_CONNECTING && !r->socket_up);
    if (put_command(&r->hello, 2, (const char *const[]){"SUBSCRIBE", channel}, NULL) != OK)
        return NOMEM;
    r->hello_left++;
    return OK;
}
