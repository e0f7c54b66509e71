/* Both ends of a channel over a socket pair, stepped in turn, in the clear and under TLS: whatever
 * goes in comes out, in both directions at once, through buffers that are far too small for it. */
#include "base/channel.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/tls.h"
#include "tests/unit/check.h"

enum { BYTES = 1 << 20, STEPS_MAX = 100000 };
static char dir[] = "/tmp/tollgate-channel-XXXXXX";

struct end {
    struct channel channel;
    const uint8_t *out;
    uint8_t *in;
    size_t sent, received;
    enum channel_io broke; /* CHANNEL_OK: not yet */
};

static void step(struct end *e)
{
    size_t n = 0;
    enum channel_io io = CHANNEL_OK;
    while (e->received < BYTES && io == CHANNEL_OK) {
        io = channel_read(&e->channel, e->in + e->received, BYTES - e->received, &n);
        if (io == CHANNEL_OK)
            e->received += n;
    }
    if (io == CHANNEL_EOF || io == CHANNEL_FAILED)
        e->broke = io;
    io = CHANNEL_OK;
    while (e->sent < BYTES && io == CHANNEL_OK && !e->broke) {
        io = channel_write(&e->channel, e->out + e->sent, BYTES - e->sent, &n);
        if (io == CHANNEL_OK)
            e->sent += n;
    }
    if (io == CHANNEL_EOF || io == CHANNEL_FAILED)
        e->broke = io;
    CHECK(channel_want(&e->channel, false) & LOOP_READ);
}

static void sockets(int fds[2])
{
    CHECK_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
}

static void end_open(struct end *e, int fd, struct tls_conn *tls)
{
    static uint8_t text[BYTES];
    for (size_t i = 0; i < BYTES; i++)
        text[i] = (uint8_t)(i * 2654435761u >> 13);
    *e = (struct end){.out = text, .in = calloc(1, BYTES)};
    CHECK_FATAL(e->in);
    channel_open(&e->channel, fd, tls);
}

static void end_close(struct end *e)
{
    free(e->in);
    channel_close(&e->channel);
    CHECK_INT(e->channel.fd, -1);
    channel_close(&e->channel); /* again is fine */
}

/* Steps both until all has come over, or one end broke. */
static void talk(struct end *a, struct end *b)
{
    for (int i = 0; i < STEPS_MAX && !a->broke && !b->broke; i++) {
        step(a);
        step(b);
        if (a->received == BYTES && b->received == BYTES)
            break;
    }
}

static void check_whole(struct end *a, struct end *b)
{
    CHECK(!a->broke && !b->broke);
    CHECK(memcmp(a->in, a->out, BYTES) == 0 && memcmp(b->in, b->out, BYTES) == 0);
    size_t n;
    char byte;
    CHECK_INT(channel_read(&a->channel, &byte, 1, &n), CHANNEL_AGAIN);
    channel_shut(&b->channel);
    CHECK_INT(channel_read(&a->channel, &byte, 1, &n), CHANNEL_EOF);
    CHECK(a->channel.why != NULL);
}

static void test_clear(void)
{
    struct end a, b;
    int fds[2];
    sockets(fds);
    end_open(&a, fds[0], NULL);
    end_open(&b, fds[1], NULL);
    CHECK_INT(channel_want(&a.channel, true), LOOP_READ | LOOP_WRITE);
    CHECK(!channel_reads_on(&a.channel));
    talk(&a, &b);
    check_whole(&a, &b);
    end_close(&a);
    end_close(&b);
}

static void make_certificates(void)
{
    char script[1024];
    CHECK_FATAL(mkdtemp(dir) != NULL);
    snprintf(
        script, sizeof script,
        "cd %s && for n in ca other; do openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$n -keyout $n.key -out $n.crt; done;"
        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x "
        "-keyout x.key -out x.csr && printf 'subjectAltName=DNS:worker.test,IP:10.0.0.1' > ext "
        "&& openssl x509 -req -in x.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
        "-extfile ext -out x.crt",
        dir);
    char command[1200];
    snprintf(command, sizeof command, "{ %s; } >/dev/null 2>&1", script);
    CHECK_FATAL(system(command) == 0);
}

static const char *file(const char *name)
{
    static char paths[8][64];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void meet(struct tls_server *s, struct tls_client *c, const char *host, struct end *a,
                 struct end *b)
{
    int fds[2];
    sockets(fds);
    end_open(a, fds[0], tls_accept(s, fds[0]));
    end_open(b, fds[1], tls_connect(c, fds[1], host));
    CHECK(channel_reads_on(&a->channel));
    talk(a, b);
}

/* One link between a server of ours and a client with `certificate`, which expects `host`. */
static void link_up(const char *certificate, const char *host, struct end *a, struct end *b)
{
    struct error err = {""};
    char crt[32], key[32];
    snprintf(crt, sizeof crt, "%s.crt", certificate);
    snprintf(key, sizeof key, "%s.key", certificate);
    const struct tls_options server = {file("x.crt"), file("x.key"), file("ca.crt")};
    const struct tls_client_options client = {file(crt), file(key), file("ca.crt")};
    struct tls_server *s = tls_server_new(&server, &err);
    struct tls_client *c = tls_client_new(&client, &err);
    CHECK_STR(err.text, "");
    CHECK_FATAL(s && c);
    meet(s, c, host, a, b);
    tls_server_free(s); /* connections hold what they need */
    tls_client_free(c);
}

static void test_tls(void)
{
    static const char *const hosts[] = {"worker.test", "10.0.0.1"};
    struct end a, b;
    for (int i = 0; i < 2; i++) {
        link_up("x", hosts[i], &a, &b);
        check_whole(&a, &b);
        end_close(&a);
        end_close(&b);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *certificate, *host, *why;
        bool client_knows; /* the client finds out, else the server */
    } cases[] = {{"x", "other.test", "hostname mismatch", true},
                 {"x", "10.0.0.2", "IP address mismatch", true},
                 {"other", "worker.test", "self-signed certificate", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct end a, b;
        link_up(cases[i].certificate, cases[i].host, &a, &b);
        struct end *who = cases[i].client_knows ? &b : &a;
        CHECK_INT(who->broke, CHANNEL_FAILED);
        CHECK(who->channel.why && strcasestr(who->channel.why, cases[i].why));
        CHECK(a.received == 0);
        end_close(&a);
        end_close(&b);
    }
}

static void copy(const char *from, const char *to)
{
    char command[200];
    snprintf(command, sizeof command, "cd %s && cp %s %s", dir, from, to);
    CHECK_FATAL(system(command) == 0);
}

static void expect(struct tls_server *s, struct tls_client *c, enum channel_io server_sees)
{
    struct end a, b;
    meet(s, c, "worker.test", &a, &b);
    CHECK_INT(a.broke, server_sees);
    end_close(&a);
    end_close(&b);
}

/* A client reads its files again: what is broken leaves the old in place. */
static void test_reload(void)
{
    struct error err = {""};
    copy("x.crt", "live.crt");
    copy("x.key", "live.key");
    const struct tls_options server = {file("x.crt"), file("x.key"), file("ca.crt")};
    const struct tls_client_options client = {file("live.crt"), file("live.key"), file("ca.crt")};
    struct tls_server *s = tls_server_new(&server, &err);
    struct tls_client *c = tls_client_new(&client, &err);
    CHECK_FATAL(s && c);
    expect(s, c, CHANNEL_OK);
    copy("other.crt", "live.crt"); /* the key is still the old one */
    CHECK_INT(tls_client_reload(c, &err), INVALID);
    CHECK(strstr(err.text, "live.key"));
    expect(s, c, CHANNEL_OK);
    copy("other.key", "live.key");
    CHECK_INT(tls_client_reload(c, &err), OK);
    expect(s, c, CHANNEL_FAILED);
    copy("x.crt", "live.crt");
    copy("x.key", "live.key");
    CHECK_INT(tls_client_reload(c, &err), OK);
    expect(s, c, CHANNEL_OK);
    tls_server_free(s);
    tls_client_free(c);
}

static void test_bad_files(void)
{
    struct error err;
    const struct tls_client_options cases[] = {{file("none.crt"), file("x.key"), file("ca.crt")},
                                               {file("x.crt"), file("other.key"), file("ca.crt")},
                                               {file("x.crt"), file("x.key"), file("none.crt")}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(!tls_client_new(&cases[i], &err));
        CHECK(strstr(err.text, dir) != NULL);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    test_clear();
    make_certificates();
    test_tls();
    test_refused();
    test_reload();
    test_bad_files();
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK(system(command) == 0);
    return check_done();
}
