/* TLS by itself, over a socket pair: the server side is stepped by hand, the client is a thread. */
#include "base/tls.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "tests/unit/base/client.h"

static char dir[] = "/tmp/tollgate-tls-XXXXXX";

struct peer {
    int fd;
    int max_version;     /* 0: any */
    const char *ciphers; /* of TLS 1.2; NULL: any */
    const char *alpn;    /* wire form; NULL: none */
    const char *garbage; /* sent instead of a handshake */
    const char *certificate;
    SSL_SESSION *session;
    /* What came of it: */
    bool connected, resumed;
    int alert;
    char subject[256], protocol[32];
};

static int new_session(SSL *ssl, SSL_SESSION *session)
{
    struct peer *p = SSL_get_app_data(ssl);
    SSL_SESSION_free(p->session);
    p->session = session;
    return 1;
}

static void note_alert(const SSL *ssl, int where, int value)
{
    struct peer *p = SSL_get_app_data(ssl);
    if ((where & SSL_CB_READ_ALERT) && (value >> 8) == SSL3_AL_FATAL)
        p->alert = value & 255;
}

static void note_outcome(struct peer *p, SSL *ssl)
{
    p->connected = true;
    p->resumed = SSL_session_reused(ssl);
    X509 *cert = SSL_get1_peer_certificate(ssl);
    X509_NAME_oneline(X509_get_subject_name(cert), p->subject, sizeof p->subject);
    X509_free(cert);
    const unsigned char *name;
    unsigned int len;
    SSL_get0_alpn_selected(ssl, &name, &len);
    snprintf(p->protocol, sizeof p->protocol, "%.*s", (int)len, len ? (const char *)name : "");
}

static SSL_CTX *client_context(struct peer *p)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_security_level(ctx, 0);
    if (p->max_version)
        SSL_CTX_set_max_proto_version(ctx, p->max_version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, new_session);
    SSL_CTX_set_info_callback(ctx, note_alert);
    if (p->ciphers)
        CHECK(SSL_CTX_set_cipher_list(ctx, p->ciphers));
    if (p->alpn)
        SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)p->alpn, (unsigned int)strlen(p->alpn));
    if (p->certificate) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s.crt", dir, p->certificate);
        CHECK(SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM) == 1);
        snprintf(path, sizeof path, "%s/%s.key", dir, p->certificate);
        CHECK(SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) == 1);
    }
    return ctx;
}

/* Says "ping", expects "pong", then a close. */
static void *client_main(void *arg)
{
    struct peer *p = arg;
    if (p->garbage) {
        char in[256];
        ssize_t n = send(p->fd, p->garbage, strlen(p->garbage), MSG_NOSIGNAL);
        shutdown(p->fd, SHUT_WR);
        n = recv(p->fd, in, sizeof in, 0);
        if (n >= 7 && in[0] == 0x15)
            p->alert = in[6];
        return NULL;
    }
    SSL_CTX *ctx = client_context(p);
    SSL *ssl = SSL_new(ctx);
    SSL_set_app_data(ssl, p);
    SSL_set_fd(ssl, p->fd);
    if (p->session)
        SSL_set_session(ssl, p->session);
    char in[8] = {0};
    if (SSL_connect(ssl) == 1 && SSL_write(ssl, "ping", 4) == 4 &&
        SSL_read(ssl, in, sizeof in) == 4 && memcmp(in, "pong", 4) == 0) {
        note_outcome(p, ssl);
        CHECK(SSL_read(ssl, in, sizeof in) == 0);
        CHECK_INT(SSL_get_error(ssl, 0), SSL_ERROR_ZERO_RETURN);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    shutdown(p->fd, SHUT_WR);
    return NULL;
}

static void wait_fd(int fd, enum tls_io io)
{
    struct pollfd want = {.fd = fd, .events = io == TLS_IO_WANT_WRITE ? POLLOUT : POLLIN};
    CHECK_FATAL(poll(&want, 1, CLIENT_TIMEOUT_S * 1000) == 1);
}

static enum tls_io serve_conn(struct tls_conn *c, int fd)
{
    enum tls_io io;
    char in[64];
    size_t got = 0, put = 0;
    while ((io = tls_handshake(c)) == TLS_IO_WANT_READ || io == TLS_IO_WANT_WRITE)
        wait_fd(fd, io);
    if (io != TLS_IO_OK)
        return io;
    while ((io = tls_read(c, in, sizeof in, &got)) == TLS_IO_WANT_READ)
        wait_fd(fd, io);
    if (io != TLS_IO_OK)
        return io;
    CHECK(got == 4 && memcmp(in, "ping", 4) == 0);
    CHECK(!tls_pending(c));
    CHECK(tls_write(c, "pong", 4, &put) == TLS_IO_OK && put == 4);
    tls_close_notify(c);
    return TLS_IO_OK;
}

/* One connection from end to end; the server side's outcome. */
static enum tls_io meet(struct tls_server *t, struct peer *p)
{
    int fds[2];
    pthread_t thread;
    CHECK_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    p->fd = fds[1];
    struct tls_conn *c = tls_accept(t, fds[0]);
    CHECK_FATAL(c);
    pthread_create(&thread, NULL, client_main, p);
    enum tls_io io = serve_conn(c, fds[0]);
    tls_conn_free(c);
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, NULL);
    close(fds[0]);
    close(fds[1]);
    return io;
}

static struct tls_server *server_of(const char *name, const char *client_ca, struct error *err)
{
    static char crt[128], key[128], ca[128];
    snprintf(crt, sizeof crt, "%s/%s.crt", dir, name);
    snprintf(key, sizeof key, "%s/%s.key", dir, name);
    snprintf(ca, sizeof ca, "%s/%s.crt", dir, client_ca ? client_ca : "none");
    struct tls_options o = {crt, key, client_ca ? ca : NULL};
    return tls_server_new(&o, err);
}

static void test_versions(struct tls_server *t)
{
    enum { ALERT_HANDSHAKE_FAILURE = 40, ALERT_PROTOCOL_VERSION = 70 };
    static const struct {
        int version;
        const char *ciphers;
        int alert; /* 0: connects */
    } cases[] = {
        {TLS1_3_VERSION, NULL, 0},
        {TLS1_2_VERSION, NULL, 0},
        {TLS1_1_VERSION, NULL, ALERT_PROTOCOL_VERSION},
        {TLS1_VERSION, NULL, ALERT_PROTOCOL_VERSION},
        {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", 0},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", ALERT_HANDSHAKE_FAILURE},
        {TLS1_2_VERSION, "AES128-GCM-SHA256", ALERT_HANDSHAKE_FAILURE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct peer p = {.max_version = cases[i].version, .ciphers = cases[i].ciphers};
        enum tls_io io = meet(t, &p);
        CHECK_INT(io, cases[i].alert ? TLS_IO_FAILED : TLS_IO_OK);
        CHECK_INT(p.connected, !cases[i].alert);
        CHECK_INT(p.alert, cases[i].alert);
        SSL_SESSION_free(p.session);
    }
}

static void test_alpn(struct tls_server *t)
{
    static const char *const cases[][2] = {
        {"\x08http/1.1", "http/1.1"}, {"\x02h2\x08http/1.1", "http/1.1"}, {"\x02h2", ""}};
    for (size_t i = 0; i < 3; i++) {
        struct peer p = {.alpn = cases[i][0]};
        CHECK_INT(meet(t, &p), TLS_IO_OK);
        CHECK_STR(p.protocol, cases[i][1]);
        SSL_SESSION_free(p.session);
    }
}

/* A ticket of one context opens a session on another: loop threads have one each. */
static void test_tickets(struct tls_server *a, struct tls_server *b)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer p = {.max_version = version};
        CHECK_INT(meet(a, &p), TLS_IO_OK);
        CHECK(!p.resumed && p.session);
        CHECK_INT(meet(b, &p), TLS_IO_OK);
        CHECK(p.resumed);
        SSL_SESSION_free(p.session);
    }
}

static void test_garbage(struct tls_server *t)
{
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\x01",
                                          "\x16\x03\x01", "", "\xff\xff\xff\xff\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct peer p = {.garbage = garbage[i]};
        enum tls_io io = meet(t, &p);
        CHECK(io == TLS_IO_FAILED || io == TLS_IO_EOF);
    }
    CHECK_INT(ERR_peek_error(), 0);
    struct peer p = {0};
    CHECK_INT(meet(t, &p), TLS_IO_OK);
    SSL_SESSION_free(p.session);
}

static void copy(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof command, "cp %s/%s %s/%s", dir, from, dir, to);
    CHECK_FATAL(system(command) == 0);
}

/* Signs the certificate of "past" again, with an end that has gone by. */
static void make_expired(void)
{
    char path[128];
    client_make_certificate(dir, "past", "-days 2");
    snprintf(path, sizeof path, "%s/past.key", dir);
    FILE *f = fopen(path, "r");
    EVP_PKEY *key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    CHECK_FATAL(key);
    fclose(f);
    snprintf(path, sizeof path, "%s/past.crt", dir);
    f = fopen(path, "r+");
    X509 *cert = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    CHECK_FATAL(cert);
    X509_gmtime_adj(X509_getm_notBefore(cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(cert), -3600);
    CHECK_FATAL(X509_sign(cert, key, EVP_sha256()) > 0);
    rewind(f);
    CHECK_FATAL(PEM_write_X509(f, cert) == 1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void expect_subject(struct tls_server *t, const char *subject)
{
    struct peer p = {0};
    CHECK_INT(meet(t, &p), TLS_IO_OK);
    CHECK_STR(p.subject, subject);
    SSL_SESSION_free(p.session);
}

static void test_reload(void)
{
    struct error err = {0};
    copy("one.crt", "live.crt");
    copy("one.key", "live.key");
    struct tls_server *t = server_of("live", NULL, &err);
    CHECK_FATAL(t);
    expect_subject(t, "/CN=one");
    copy("two.crt", "live.crt"); /* the key is still the old one */
    CHECK(tls_server_reload(t, &err) == INVALID);
    CHECK(strstr(err.text, "live.key"));
    expect_subject(t, "/CN=one");
    copy("two.key", "live.key");
    CHECK(tls_server_reload(t, &err) == OK);
    expect_subject(t, "/CN=two");
    copy("past.crt", "live.crt");
    copy("past.key", "live.key");
    CHECK(tls_server_reload(t, &err) == INVALID);
    CHECK(strstr(err.text, "expired"));
    copy("one.key", "live.crt");
    CHECK(tls_server_reload(t, &err) == INVALID);
    char path[128];
    snprintf(path, sizeof path, "%s/live.crt", dir);
    unlink(path);
    CHECK(tls_server_reload(t, &err) == INVALID);
    expect_subject(t, "/CN=two");
    tls_server_free(t);
    CHECK(!server_of("absent", NULL, &err));
    CHECK(!server_of("one", "absent", &err));
}

static void test_client_certificates(void)
{
    struct error err = {0};
    struct tls_server *t = server_of("one", "two", &err);
    CHECK_FATAL(t);
    struct peer with = {.certificate = "two"}, without = {0}, other = {.certificate = "one"};
    CHECK_INT(meet(t, &with), TLS_IO_OK);
    CHECK_INT(meet(t, &without), TLS_IO_FAILED);
    CHECK_INT(meet(t, &other), TLS_IO_FAILED);
    CHECK(without.alert && other.alert);
    SSL_SESSION_free(with.session);
    SSL_SESSION_free(without.session);
    SSL_SESSION_free(other.session);
    tls_server_free(t);
}

int main(void)
{
    struct error err = {0};
    signal(SIGPIPE, SIG_IGN);
    CHECK_FATAL(mkdtemp(dir));
    client_make_certificate(dir, "one", "-days 2");
    client_make_certificate(dir, "two", "-days 2");
    make_expired();
    struct tls_server *a = server_of("one", NULL, &err), *b = server_of("one", NULL, &err);
    CHECK_FATAL(a && b);
    test_versions(a);
    test_alpn(a);
    test_tickets(a, b);
    test_garbage(a);
    tls_server_free(a);
    tls_server_free(b);
    tls_server_free(NULL);
    test_reload();
    test_client_certificates();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK(system(command) == 0);
    return check_done();
}
