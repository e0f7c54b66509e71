/* Each allocation on the server's thread fails once, in turn: the client may get 503 or a closed
 * connection, the next one is served as ever. */
#include "base/http_server.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/tls.h"
#include "tests/unit/base/client.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);

static _Thread_local bool on_loop;
static atomic_long countdown; /* allocations until the one that fails; 0: none does */

static bool fails(void)
{
    return on_loop && countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

void *malloc(size_t bytes)
{
    return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    return fails() ? NULL : __libc_realloc(old, bytes);
}

static struct loop *loop;

static void on_request(struct http_exchange *ex, void *arg)
{
    size_t len;
    const uint8_t *body = http_body(ex, &len);
    http_set_user(ex, ex);
    http_reply_begin(ex, 200, NULL, 0, "text/plain");
    http_reply_write(ex, body, len);
    http_reply_write(ex, "$", 1);
    http_reply_end(ex);
}

static void *run(void *arg)
{
    on_loop = true;
    loop_run(loop);
    return NULL;
}

/* True: the whole answer came. */
static bool ask(int port, bool with_tls)
{
    static char request[20000];
    size_t head = (size_t)snprintf(request, sizeof request,
                                   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 19000\r\n\r\n");
    memset(request + head, 'a', 19000);
    struct client *c = client_open(port);
    bool ready = true;
    if (with_tls) {
        c->ctx = SSL_CTX_new(TLS_client_method());
        c->ssl = SSL_new(c->ctx);
        SSL_set_fd(c->ssl, c->fd);
        ready = SSL_connect(c->ssl) == 1;
    }
    bool answered = ready && client_send(c, request, head + 19000) && client_wait(c, "$");
    client_close(c);
    return answered;
}

static void test(struct tls_server *tls)
{
    struct error err = {0};
    static const struct http_handlers handlers = {.request = on_request};
    struct http_options options = {.listen = "127.0.0.1:0",
                                   .tls = tls,
                                   .handlers = &handlers,
                                   .handshake_timeout_ms = 200,
                                   .head_timeout_ms = 200,
                                   .body_timeout_ms = 200,
                                   .write_timeout_ms = 200};
    loop = loop_new(&err);
    struct http_server *server = http_server_new(loop, &options, &err);
    CHECK_FATAL(server);
    pthread_t thread;
    pthread_create(&thread, NULL, run, NULL);
    int port = http_server_port(server);
    int failed = 0;
    long left = 0;
    for (long n = 1; left == 0 && n < 100000; n++) {
        countdown = n;
        failed += !ask(port, tls);
        left = countdown; /* more than zero: fewer allocations than n were made */
        countdown = 0;
        CHECK(ask(port, tls));
    }
    CHECK(failed > 0);
    CHECK(left > 0);
    loop_stop(loop);
    pthread_join(thread, NULL);
    http_server_free(server);
    loop_free(loop);
}

int main(void)
{
    struct error err = {0};
    char dir[] = "/tmp/tollgate-memory-XXXXXX", crt[128], key[128], command[128];
    signal(SIGPIPE, SIG_IGN);
    CHECK_FATAL(mkdtemp(dir));
    client_make_certificate(dir, "localhost", "-days 2");
    snprintf(crt, sizeof crt, "%s/localhost.crt", dir);
    snprintf(key, sizeof key, "%s/localhost.key", dir);
    struct tls_options options = {.certificate_file = crt, .key_file = key};
    struct tls_server *tls = tls_server_new(&options, &err);
    CHECK_FATAL(tls);
    test(NULL);
    test(tls);
    tls_server_free(tls);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK(system(command) == 0);
    return check_done();
}

#else

int main(void)
{
    CHECK_SKIP("the sanitizers have an allocator of their own");
}

#endif
