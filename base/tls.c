#include "base/tls.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypto.h"

enum { SESSION_SECONDS = 7200, TICKET_NAME_BYTES = 16, TICKET_IV_BYTES = 16 };

/* ECDHE with an AEAD only; TLS 1.3 has nothing else. 128 bits first: faster, and enough. */
static const char ciphers_12[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
static const char ciphers_13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256:P-384";

struct tls_server {
    SSL_CTX *ctx; /* each connection holds its own reference, so a swap cuts nobody off */
    char *certificate_file, *key_file, *client_ca_file;
};

struct tls_conn {
    SSL *ssl;
    bool broken; /* nothing more may be sent: a fatal error, or cut off on purpose */
    const char *why;
};

struct tls_client {
    SSL_CTX *ctx; /* as a server's */
    char *certificate_file, *key_file, *ca_file;
};

/* Ticket keys belong to the process, not to one context: a client that comes back may land on
 * another loop thread. The key before the current one still opens tickets. */
struct ticket_key {
    uint8_t name[TICKET_NAME_BYTES], cipher_key[32], mac_key[32];
    int64_t made_ms;
};

static pthread_mutex_t ticket_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ticket_key ticket_keys[2]; /* the current one first; guarded by ticket_lock */
static bool ticket_keys_made;
static EVP_CIPHER *ticket_cipher; /* fetched once: a fetch takes locks */

static void make_ticket_key(int64_t now_ms)
{
    ticket_keys[1] = ticket_keys[0];
    crypto_random(ticket_keys[0].name, sizeof ticket_keys[0].name);
    crypto_random(ticket_keys[0].cipher_key, sizeof ticket_keys[0].cipher_key);
    crypto_random(ticket_keys[0].mac_key, sizeof ticket_keys[0].mac_key);
    ticket_keys[0].made_ms = now_ms;
}

static struct ticket_key current_ticket_key(void)
{
    int64_t now_ms = clock_mono_ms();
    pthread_mutex_lock(&ticket_lock);
    if (!ticket_keys_made) {
        make_ticket_key(now_ms);
        make_ticket_key(now_ms); /* so that no slot holds a key of zeros */
        ticket_keys_made = true;
    } else if (now_ms - ticket_keys[0].made_ms > SESSION_SECONDS * 1000LL) {
        make_ticket_key(now_ms);
    }
    struct ticket_key key = ticket_keys[0];
    pthread_mutex_unlock(&ticket_lock);
    return key;
}

/* Returns 0: unknown, 1: the current key, 2: the one before it (the ticket is renewed). */
static int find_ticket_key(const unsigned char *name, struct ticket_key *out)
{
    *out = current_ticket_key();
    if (memcmp(out->name, name, TICKET_NAME_BYTES) == 0)
        return 1;
    pthread_mutex_lock(&ticket_lock);
    *out = ticket_keys[1];
    pthread_mutex_unlock(&ticket_lock);
    return memcmp(out->name, name, TICKET_NAME_BYTES) == 0 ? 2 : 0;
}

static bool ticket_crypto_init(const struct ticket_key *key, const unsigned char *iv,
                               EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac_key,
                                          sizeof key->mac_key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) &&
           EVP_CipherInit_ex(cipher, ticket_cipher, NULL, key->cipher_key, iv, encrypt);
}

static int ticket_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                           EVP_MAC_CTX *mac, int encrypt)
{
    struct ticket_key key;
    int found = 1;
    if (encrypt) {
        key = current_ticket_key();
        memcpy(name, key.name, TICKET_NAME_BYTES);
        crypto_random(iv, TICKET_IV_BYTES);
    } else {
        found = find_ticket_key(name, &key);
    }
    if (found && !ticket_crypto_init(&key, iv, cipher, mac, encrypt))
        found = -1;
    crypto_wipe(&key, sizeof key);
    return found;
}

/* A client that knows only other protocols goes on without one, and then meets HTTP/1.1. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *picked;
    if (SSL_select_next_proto(&picked, out_len, ours, sizeof ours - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = picked;
    return SSL_TLSEXT_ERR_OK;
}

static enum status openssl_error(struct error *err, enum status status, const char *what,
                                 const char *file)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    error_set(err, status, "%s %s: %s", what, file, reason ? reason : "unknown reason");
    ERR_clear_error();
    return status;
}

static enum status check_validity(SSL_CTX *ctx, const char *file, struct error *err)
{
    X509 *cert = SSL_CTX_get0_certificate(ctx);
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
        return error_set(err, INVALID, "certificate %s has expired", file);
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0)
        return error_set(err, INVALID, "certificate %s is not valid yet", file);
    return OK;
}

static enum status load_client_ca(SSL_CTX *ctx, const char *file, struct error *err)
{
    if (!SSL_CTX_load_verify_locations(ctx, file, NULL))
        return openssl_error(err, INVALID, "client CA", file);
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (!names)
        return openssl_error(err, INVALID, "client CA", file);
    SSL_CTX_set_client_CA_list(ctx, names);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return OK;
}

static enum status load_pair(SSL_CTX *ctx, const char *certificate, const char *key,
                             struct error *err)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
        return openssl_error(err, INVALID, "certificate", certificate);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return openssl_error(err, INVALID, "private key", key);
    if (SSL_CTX_check_private_key(ctx) != 1)
        return openssl_error(err, INVALID, "private key", key);
    return check_validity(ctx, certificate, err);
}

static enum status load_files(const struct tls_server *t, SSL_CTX *ctx, struct error *err)
{
    enum status st = load_pair(ctx, t->certificate_file, t->key_file, err);
    if (st == OK && t->client_ca_file)
        st = load_client_ca(ctx, t->client_ca_file, err);
    return st;
}

/* The version bounds are explicit: without them an old client gets internal_error where
 * protocol_version is due, when the system's openssl.cnf raises the minimum. */
static bool configure(SSL_CTX *ctx)
{
    static const unsigned char session_context[] = "tollgate";
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets instead */
    SSL_CTX_set_timeout(ctx, SESSION_SECONDS);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
           SSL_CTX_set_cipher_list(ctx, ciphers_12) && SSL_CTX_set_ciphersuites(ctx, ciphers_13) &&
           SSL_CTX_set1_groups_list(ctx, groups) &&
           SSL_CTX_set_session_id_context(ctx, session_context, sizeof session_context - 1) &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_callback);
}

static enum status make_context(const struct tls_server *t, SSL_CTX **out, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || !configure(ctx)) {
        SSL_CTX_free(ctx);
        return openssl_error(err, NOMEM, "TLS", "context");
    }
    enum status st = load_files(t, ctx, err);
    if (st != OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    *out = ctx;
    return OK;
}

static void fetch_algorithms(void)
{
    ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
}

struct tls_server *tls_server_new(const struct tls_options *options, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch_algorithms);
    struct tls_server *t = calloc(1, sizeof *t);
    if (t) {
        t->certificate_file = strdup(options->certificate_file);
        t->key_file = strdup(options->key_file);
        t->client_ca_file = options->client_ca_file ? strdup(options->client_ca_file) : NULL;
    }
    if (!ticket_cipher || !t || !t->certificate_file || !t->key_file ||
        (options->client_ca_file && !t->client_ca_file)) {
        error_set(err, NOMEM, "out of memory for TLS");
        tls_server_free(t);
        return NULL;
    }
    if (make_context(t, &t->ctx, err) != OK) {
        tls_server_free(t);
        return NULL;
    }
    return t;
}

enum status tls_server_reload(struct tls_server *t, struct error *err)
{
    SSL_CTX *next;
    enum status st = make_context(t, &next, err);
    if (st != OK)
        return st;
    SSL_CTX_free(t->ctx);
    t->ctx = next;
    return OK;
}

void tls_server_free(struct tls_server *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    free(t->certificate_file);
    free(t->key_file);
    free(t->client_ca_file);
    free(t);
}

int64_t tls_server_expires_ms(const struct tls_server *t)
{
    struct tm tm;
    /* make_context has read the time already, so it is one. */
    int good = ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(t->ctx)), &tm);
    assert(good == 1);
    return (int64_t)timegm(&tm) * 1000;
}

struct tls_conn *tls_accept(struct tls_server *t, int fd)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->ssl = SSL_new(t->ctx);
    if (!c->ssl || !SSL_set_fd(c->ssl, fd)) {
        ERR_clear_error();
        SSL_free(c->ssl);
        free(c);
        return NULL;
    }
    SSL_set_accept_state(c->ssl);
    return c;
}

static enum status load_client(const struct tls_client *t, SSL_CTX *ctx, struct error *err)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(ctx, ciphers_13) || !SSL_CTX_set1_groups_list(ctx, groups))
        return openssl_error(err, NOMEM, "TLS", "context");
    if (!SSL_CTX_load_verify_locations(ctx, t->ca_file, NULL))
        return openssl_error(err, INVALID, "CA", t->ca_file);
    return load_pair(ctx, t->certificate_file, t->key_file, err);
}

struct tls_client *tls_client_new(const struct tls_client_options *options, struct error *err)
{
    struct tls_client *t = calloc(1, sizeof *t);
    if (t) {
        t->certificate_file = strdup(options->certificate_file);
        t->key_file = strdup(options->key_file);
        t->ca_file = strdup(options->ca_file);
    }
    if (!t || !t->certificate_file || !t->key_file || !t->ca_file) {
        error_set(err, NOMEM, "out of memory for TLS");
        tls_client_free(t);
        return NULL;
    }
    if (tls_client_reload(t, err) != OK) {
        tls_client_free(t);
        return NULL;
    }
    return t;
}

enum status tls_client_reload(struct tls_client *t, struct error *err)
{
    ERR_clear_error();
    SSL_CTX *next = SSL_CTX_new(TLS_client_method());
    if (!next)
        return openssl_error(err, NOMEM, "TLS", "context");
    enum status st = load_client(t, next, err);
    if (st != OK) {
        SSL_CTX_free(next);
        return st;
    }
    SSL_CTX_free(t->ctx);
    t->ctx = next;
    return OK;
}

void tls_client_free(struct tls_client *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->ctx);
    free(t->certificate_file);
    free(t->key_file);
    free(t->ca_file);
    free(t);
}

static bool expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host))
        return true; /* it is an address */
    ERR_clear_error();
    return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
}

struct tls_conn *tls_connect(struct tls_client *t, int fd, const char *host)
{
    struct tls_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->ssl = SSL_new(t->ctx);
    if (!c->ssl || !SSL_set_fd(c->ssl, fd) || !expect_host(c->ssl, host)) {
        ERR_clear_error();
        SSL_free(c->ssl);
        free(c);
        return NULL;
    }
    SSL_set_connect_state(c->ssl);
    return c;
}

const char *tls_why(const struct tls_conn *c)
{
    return c->why ? c->why : "the connection was closed";
}

void tls_close_notify(struct tls_conn *c)
{
    if (c->broken || !SSL_is_init_finished(c->ssl))
        return;
    if (SSL_shutdown(c->ssl) < 0)
        ERR_clear_error();
    c->broken = true;
}

void tls_abort(struct tls_conn *c)
{
    c->broken = true;
}

void tls_conn_free(struct tls_conn *c)
{
    if (!c)
        return;
    tls_close_notify(c);
    SSL_free(c->ssl);
    free(c);
}

/* OpenSSL reads the thread's error queue to tell what happened: it must start out empty. */
static void clear_stale_errors(void)
{
    if (ERR_peek_error())
        ERR_clear_error();
}

static enum tls_io outcome(struct tls_conn *c, int result)
{
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return TLS_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_IO_EOF;
    default:
        c->broken = true;
        long verified = SSL_get_verify_result(c->ssl);
        c->why = verified == X509_V_OK ? ERR_reason_error_string(ERR_peek_last_error())
                                       : X509_verify_cert_error_string(verified);
        ERR_clear_error();
        return TLS_IO_FAILED;
    }
}

enum tls_io tls_handshake(struct tls_conn *c)
{
    clear_stale_errors();
    int done = SSL_do_handshake(c->ssl);
    return done == 1 ? TLS_IO_OK : outcome(c, done);
}

enum tls_io tls_read(struct tls_conn *c, void *out, size_t size, size_t *got)
{
    clear_stale_errors();
    int done = SSL_read_ex(c->ssl, out, size, got);
    return done == 1 ? TLS_IO_OK : outcome(c, done);
}

bool tls_pending(const struct tls_conn *c)
{
    return SSL_has_pending(c->ssl);
}

enum tls_io tls_write(struct tls_conn *c, const void *data, size_t len, size_t *put)
{
    if (c->broken)
        return TLS_IO_FAILED;
    clear_stale_errors();
    int done = SSL_write_ex(c->ssl, data, len, put);
    return done == 1 ? TLS_IO_OK : outcome(c, done);
}
