#include "base/redis_internal.h"

#include <errno.h>
#include <hiredis/read.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/crypto.h"

enum { REPLY_BYTES_MAX = 64 << 20 };

/* --- addresses --- */

static bool copy_part(char *out, size_t size, const char *from, size_t len)
{
    if (len >= size)
        return false;
    memcpy(out, from, len);
    out[len] = 0;
    return true;
}

static bool parse_db(const char *text, int *out)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end || n < 0 || n > 65535)
        return false;
    *out = (int)n;
    return true;
}

static enum status parse_unix(const char *rest, struct redis_address *a, struct error *err)
{
    if (strncmp(rest, "//", 2) == 0)
        rest += 2;
    size_t len = strcspn(rest, "?");
    a->is_unix = true;
    if (len == 0 || !copy_part(a->path, sizeof a->path, rest, len))
        return error_set(err, INVALID, "redis url: the socket path is empty or too long");
    if (!rest[len])
        return OK;
    if (strncmp(rest + len, "?db=", 4) != 0 || !parse_db(rest + len + 4, &a->db))
        return error_set(err, INVALID, "redis url: only ?db=N may follow a socket path");
    return OK;
}

static enum status parse_login(const char *login, size_t len, struct redis_address *a,
                               struct error *err)
{
    const char *colon = memchr(login, ':', len);
    size_t user = colon ? (size_t)(colon - login) : len;
    if (!colon || !copy_part(a->user, sizeof a->user, login, user) ||
        !copy_part(a->password, sizeof a->password, colon + 1, len - user - 1))
        return error_set(err, INVALID, "redis url: the login part is not [user]:password");
    return OK;
}

static enum status parse_tcp(const char *rest, struct redis_address *a, struct error *err)
{
    size_t end = strcspn(rest, "/");
    if (rest[end] && rest[end + 1] && !parse_db(rest + end + 1, &a->db))
        return error_set(err, INVALID, "redis url: the database is not a number");
    const char *at = memrchr(rest, '@', end);
    if (at) {
        enum status st = parse_login(rest, (size_t)(at - rest), a, err);
        if (st != OK)
            return st;
        end -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    size_t host = end;
    const char *port = "6379";
    size_t port_len = 4;
    const char *colon = memrchr(rest, ':', end);
    if (colon && !memchr(colon, ']', end - (size_t)(colon - rest))) {
        host = (size_t)(colon - rest);
        port = colon + 1;
        port_len = end - host - 1;
    }
    if (host >= 2 && rest[0] == '[' && rest[host - 1] == ']') {
        rest++;
        host -= 2;
    }
    if (host == 0 || port_len == 0 || strspn(port, "0123456789") < port_len ||
        !copy_part(a->host, sizeof a->host, rest, host) ||
        !copy_part(a->port, sizeof a->port, port, port_len))
        return error_set(err, INVALID, "redis url: expected redis://host:port/db");
    return OK;
}

enum status redis_address_parse(const char *url, struct redis_address *out, struct error *err)
{
    struct redis_address a = {0};
    enum status st;
    if (strncmp(url, "unix:", 5) == 0)
        st = parse_unix(url + 5, &a, err);
    else if (strncmp(url, "redis://", 8) == 0)
        st = parse_tcp(url + 8, &a, err);
    else
        st = error_set(err, INVALID, "redis url: expected redis://host:port/db or unix:/path");
    if (st == OK)
        *out = a;
    return st;
}

static int connect_unix(const struct redis_address *a, struct error *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    memcpy(sun.sun_path, a->path, sizeof sun.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0) {
        error_errno(err, errno, "cannot connect to Redis at %s", a->path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int connect_tcp(const struct redis_address *a, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    int rc = getaddrinfo(a->host, a->port, &hints, &list);
    if (rc != 0) {
        error_set(err, IO_FAILED, "cannot resolve Redis host %s: %s", a->host, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *i = list; i; i = i->ai_next) {
        fd = socket(i->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && (connect(fd, i->ai_addr, i->ai_addrlen) == 0 || errno == EINPROGRESS))
            break;
        error_errno(err, errno, "cannot connect to Redis at %s:%s", a->host, a->port);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    }
    return fd;
}

int redis_address_connect(const struct redis_address *a, struct error *err)
{
    return a->is_unix ? connect_unix(a, err) : connect_tcp(a, err);
}

static enum status put_words(struct buf *out, int argc, const char *const *argv)
{
    enum status st = redis_put_head(out, argc);
    for (int i = 0; i < argc && st == OK; i++)
        st = redis_put_arg(out, argv[i], strlen(argv[i]));
    return st;
}

enum status redis_put_hello(struct buf *out, const struct redis_address *a, const char *password,
                            int *count)
{
    char db[16];
    enum status st = OK;
    int n = 1;
    if (!password && a->password[0])
        password = a->password;
    if (password) {
        const char *const with_user[] = {"AUTH", a->user, password};
        const char *const without[] = {"AUTH", password};
        st = put_words(out, a->user[0] ? 3 : 2, a->user[0] ? with_user : without);
        n++;
    }
    if (st == OK && a->db) {
        snprintf(db, sizeof db, "%d", a->db);
        st = put_words(out, 2, (const char *const[]){"SELECT", db});
        n++;
    }
    if (st == OK)
        st = put_words(out, 1, (const char *const[]){"PING"});
    if (st == OK)
        *count = n;
    return st;
}

/* --- replies --- */

static struct redis_reply *new_reply(const redisReadTask *task)
{
    struct redis_codec *c = task->privdata;
    if (task->parent) {
        struct redis_reply *parent = task->parent->obj;
        struct redis_reply *items = (struct redis_reply *)parent->items;
        return &items[task->idx]; /* the array was made here, and is not const to us */
    }
    return arena_zalloc(c->arena, sizeof(struct redis_reply));
}

static void *make_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_codec *c = task->privdata;
    struct redis_reply *r = new_reply(task);
    char *copy = arena_strndup(c->arena, text, len);
    if (!r || !copy)
        return NULL;
    r->type = task->type == REDIS_REPLY_ERROR    ? REDIS_ERROR
              : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
                                                 : REDIS_STRING;
    r->text = copy;
    r->len = len;
    return r;
}

static void *make_array(const redisReadTask *task, int elements)
{
    struct redis_codec *c = task->privdata;
    struct redis_reply *r = new_reply(task);
    size_t count = elements > 0 ? (size_t)elements : 0;
    struct redis_reply *items = arena_zalloc(c->arena, count * sizeof *items);
    if (!r || !items)
        return NULL;
    r->type = REDIS_ARRAY;
    r->items = items;
    r->count = count;
    return r;
}

static void *make_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *r = new_reply(task);
    if (!r)
        return NULL;
    r->type = REDIS_INT;
    r->integer = value;
    return r;
}

static void *make_nil(const redisReadTask *task)
{
    struct redis_reply *r = new_reply(task);
    if (!r)
        return NULL;
    r->type = REDIS_NIL;
    return r;
}

static void forget(void *reply)
{
    /* It lives in the arena. */
}

static redisReplyObjectFunctions makers = {make_string, make_array, make_integer, make_nil, forget};

enum status redis_codec_init(struct redis_codec *c)
{
    c->arena = arena_new(REPLY_BYTES_MAX);
    c->reader = c->arena ? redisReaderCreateWithFunctions(&makers) : NULL;
    if (!c->reader) {
        redis_codec_done(c);
        return NOMEM;
    }
    c->reader->privdata = c;
    return OK;
}

void redis_codec_done(struct redis_codec *c)
{
    if (c->reader)
        redisReaderFree(c->reader);
    arena_free(c->arena);
    *c = (struct redis_codec){0};
}

enum status redis_codec_feed(struct redis_codec *c, const char *data, size_t len)
{
    return redisReaderFeed(c->reader, data, len) == REDIS_OK ? OK : CORRUPT;
}

enum status redis_codec_next(struct redis_codec *c, const struct redis_reply **out)
{
    void *reply = NULL;
    if (redisReaderGetReply(c->reader, &reply) != REDIS_OK)
        return CORRUPT;
    if (!reply)
        return c->reader->len > REPLY_BYTES_MAX ? CORRUPT : NOT_FOUND;
    *out = reply;
    return OK;
}

void redis_codec_drop(struct redis_codec *c)
{
    arena_reset(c->arena);
}

/* --- commands --- */

static enum status put_count(struct buf *out, char mark, size_t n)
{
    char text[24];
    char *p = text + sizeof text;
    *--p = '\n';
    *--p = '\r';
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    *--p = mark;
    return buf_add(out, p, (size_t)(text + sizeof text - p));
}

enum status redis_put_head(struct buf *out, int argc)
{
    return put_count(out, '*', (size_t)argc);
}

enum status redis_put_arg(struct buf *out, const char *arg, size_t len)
{
    enum status st = put_count(out, '$', len);
    if (st == OK)
        st = buf_add(out, arg, len);
    return st == OK ? buf_add(out, "\r\n", 2) : st;
}

struct redis_script *redis_script_new(const char *text)
{
    struct redis_script *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->refs = 1;
    s->len = strlen(text);
    s->text = strdup(text);
    if (!s->text) {
        free(s);
        return NULL;
    }
    uint8_t hash[SHA1_BYTES];
    crypto_sha1(text, s->len, hash);
    for (int i = 0; i < SHA1_BYTES; i++)
        snprintf(s->sha + 2 * i, 3, "%02x", hash[i]);
    return s;
}

struct redis_script *redis_script_ref(const struct redis_script *s)
{
    struct redis_script *kept = (struct redis_script *)s; /* the count is not part of its value */
    kept->refs++;
    return kept;
}

void redis_script_free(struct redis_script *s)
{
    if (!s || --s->refs > 0)
        return;
    free(s->text);
    free(s);
}

bool redis_is_noscript(const struct redis_reply *reply)
{
    return reply->type == REDIS_ERROR && strncmp(reply->text, "NOSCRIPT", 8) == 0;
}
