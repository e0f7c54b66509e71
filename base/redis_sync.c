/* The blocking client: one command, one reply, each with a deadline. A lost connection is made
 * again by the next call. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redis_internal.h"

enum { OUT_BYTES_MAX = 64 << 20 };

struct redis_sync {
    struct redis_address address;
    char *password;
    int64_t connect_timeout_ms, command_timeout_ms;
    int fd;
    struct redis_codec codec;
    struct buf out;
};

static void close_sync(struct redis_sync *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    redis_codec_done(&r->codec);
}

static enum status wait_ready(struct redis_sync *r, short events, int64_t deadline_ms,
                              struct error *err)
{
    for (;;) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        struct pollfd p = {.fd = r->fd, .events = events};
        int ready = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
        if (ready > 0)
            return OK;
        if (ready == 0)
            return error_set(err, TIMED_OUT, "Redis did not answer in time");
        if (errno != EINTR)
            return error_errno(err, errno, "poll");
    }
}

static enum status send_out(struct redis_sync *r, int64_t deadline_ms, struct error *err)
{
    while (buf_len(&r->out)) {
        ssize_t n = send(r->fd, buf_head(&r->out), buf_len(&r->out), MSG_NOSIGNAL);
        if (n >= 0) {
            buf_eat(&r->out, (size_t)n);
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOTCONN)
            return error_errno(err, errno, "cannot write to Redis");
        enum status st = wait_ready(r, POLLOUT, deadline_ms, err);
        if (st != OK)
            return st;
    }
    return OK;
}

static enum status receive(struct redis_sync *r, int64_t deadline_ms,
                           const struct redis_reply **out, struct error *err)
{
    char bytes[16384];
    for (;;) {
        enum status st = redis_codec_next(&r->codec, out);
        if (st != NOT_FOUND)
            return st == OK ? OK : error_set(err, st, "Redis sent what is not a reply");
        st = wait_ready(r, POLLIN, deadline_ms, err);
        if (st != OK)
            return st;
        ssize_t n = recv(r->fd, bytes, sizeof bytes, 0);
        if (n == 0)
            return error_set(err, CLOSED, "Redis closed the connection");
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_errno(err, errno, "cannot read from Redis");
        if (n > 0 && redis_codec_feed(&r->codec, bytes, (size_t)n) != OK)
            return error_set(err, CORRUPT, "Redis sent what is not a reply");
    }
}

static enum status greet(struct redis_sync *r, int64_t deadline_ms, struct error *err)
{
    int count = 0;
    buf_clear(&r->out);
    if (redis_codec_init(&r->codec) != OK ||
        redis_put_hello(&r->out, &r->address, r->password, &count) != OK)
        return error_set(err, NOMEM, "out of memory for a Redis connection");
    enum status st = wait_ready(r, POLLOUT, deadline_ms, err);
    if (st == OK)
        st = send_out(r, deadline_ms, err);
    while (st == OK && count-- > 0) {
        const struct redis_reply *reply = NULL;
        st = receive(r, deadline_ms, &reply, err);
        if (st == OK && reply->type == REDIS_ERROR)
            st = error_set(err, UNAVAILABLE, "Redis refuses us: %s", reply->text);
    }
    return st;
}

static enum status open_sync(struct redis_sync *r, struct error *err)
{
    if (r->fd >= 0)
        return OK;
    int64_t deadline_ms = clock_mono_ms() + r->connect_timeout_ms;
    r->fd = redis_address_connect(&r->address, err);
    enum status st = r->fd >= 0 ? greet(r, deadline_ms, err) : UNAVAILABLE;
    if (st != OK)
        close_sync(r);
    return st;
}

struct redis_sync *redis_sync_new(const struct redis_options *options, struct error *err)
{
    struct redis_address address;
    if (redis_address_parse(options->url, &address, err) != OK)
        return NULL;
    struct redis_sync *r = calloc(1, sizeof *r);
    if (!r) {
        error_set(err, NOMEM, "out of memory for a Redis connection");
        return NULL;
    }
    r->address = address;
    r->fd = -1;
    r->connect_timeout_ms = options->connect_timeout_ms;
    r->command_timeout_ms = options->command_timeout_ms;
    buf_init(&r->out, OUT_BYTES_MAX);
    if (options->password) {
        r->password = strdup(options->password);
        if (!r->password) {
            error_set(err, NOMEM, "out of memory for a Redis connection");
            redis_sync_free(r);
            return NULL;
        }
    }
    if (open_sync(r, err) != OK) {
        redis_sync_free(r);
        return NULL;
    }
    return r;
}

void redis_sync_free(struct redis_sync *r)
{
    if (!r)
        return;
    close_sync(r);
    buf_done(&r->out);
    if (r->password)
        explicit_bzero(r->password, strlen(r->password));
    free(r->password);
    explicit_bzero(&r->address, sizeof r->address);
    free(r);
}

/* Sends what is in `out` and waits for its one reply. */
static const struct redis_reply *exchange(struct redis_sync *r, struct error *err)
{
    const struct redis_reply *reply = NULL;
    int64_t deadline_ms = clock_mono_ms() + r->command_timeout_ms;
    if (send_out(r, deadline_ms, err) == OK && receive(r, deadline_ms, &reply, err) == OK)
        return reply;
    close_sync(r);
    return NULL;
}

/* An idle connection that the server has closed meanwhile is made again before it is used. */
static enum status ready_to_send(struct redis_sync *r, struct error *err)
{
    if (r->fd >= 0) {
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        if (poll(&p, 1, 0) != 0)
            close_sync(r);
        else
            redis_codec_drop(&r->codec);
    }
    buf_clear(&r->out);
    return open_sync(r, err);
}

static enum status put_args(struct buf *out, int argc, const char *const *argv, const size_t *lens)
{
    enum status st = OK;
    for (int i = 0; i < argc && st == OK; i++)
        st = redis_put_arg(out, argv[i], lens ? lens[i] : strlen(argv[i]));
    return st;
}

const struct redis_reply *redis_sync_command(struct redis_sync *r, int argc,
                                             const char *const *argv, const size_t *lens,
                                             struct error *err)
{
    if (ready_to_send(r, err) != OK)
        return NULL;
    enum status st = redis_put_head(&r->out, argc);
    if (st == OK)
        st = put_args(&r->out, argc, argv, lens);
    if (st != OK) {
        error_set(err, st, "the Redis command is too large");
        return NULL;
    }
    return exchange(r, err);
}

static enum status put_script(struct redis_sync *r, const struct redis_script *s, bool text,
                              int keys, int argc)
{
    char count[16];
    int n = snprintf(count, sizeof count, "%d", keys);
    enum status st = redis_put_head(&r->out, 3 + argc);
    if (st == OK)
        st = redis_put_arg(&r->out, text ? "EVAL" : "EVALSHA", text ? 4 : 7);
    if (st == OK)
        st = redis_put_arg(&r->out, text ? s->text : s->sha, text ? s->len : 40);
    return st == OK ? redis_put_arg(&r->out, count, (size_t)n) : st;
}

const struct redis_reply *redis_sync_eval(struct redis_sync *r, const struct redis_script *s,
                                          int keys, int argc, const char *const *argv,
                                          const size_t *lens, struct error *err)
{
    for (int text = 0;; text = 1) {
        if (ready_to_send(r, err) != OK)
            return NULL;
        enum status st = put_script(r, s, text, keys, argc);
        if (st == OK)
            st = put_args(&r->out, argc, argv, lens);
        if (st != OK) {
            error_set(err, st, "the Redis command is too large");
            return NULL;
        }
        const struct redis_reply *reply = exchange(r, err);
        if (!reply || text || !redis_is_noscript(reply))
            return reply;
    }
}
