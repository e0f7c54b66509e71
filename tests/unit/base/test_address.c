#include "base/address.h"

#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/check.h"

static char folder[] = "/tmp/tg-address-XXXXXX";

static void test_parse(void)
{
    static const struct {
        const char *text;
        enum status want;
        int family;
    } table[] = {
        {"unix:/run/x.sock", OK, AF_UNIX},
        {"127.0.0.1:80", OK, AF_INET},
        {"[::1]:80", OK, AF_INET6},
        {":80", OK, AF_INET},
        {"*:80", OK, AF_INET},
        {"127.0.0.1:0", OK, AF_INET},
        {"unix:", INVALID, 0},
        {"127.0.0.1", INVALID, 0},
        {"127.0.0.1:", INVALID, 0},
        {"127.0.0.1:65536", INVALID, 0},
        {"127.0.0.1:8o", INVALID, 0},
        {"127.0.0.1:-1", INVALID, 0},
        {"127.0.0.1:000080", INVALID, 0},
        {"::1:80", INVALID, 0},
        {"[::1]", INVALID, 0},
        {"[::1:80", INVALID, 0},
        {"", INVALID, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct address a;
        struct error err = {""};
        enum status st = address_parse(table[i].text, &a, &err);
        CHECK_INT(st, table[i].want);
        if (st == OK)
            CHECK_INT(a.addr.ss_family, table[i].family);
        else
            CHECK(err.text[0]);
    }
    char path[300];
    memset(path, 'x', sizeof path);
    memcpy(path, "unix:/", 6);
    path[sizeof path - 1] = 0;
    struct address a;
    struct error err;
    CHECK_INT(address_parse(path, &a, &err), INVALID);
    path[150] = 0;
    CHECK_INT(address_parse(path, &a, &err), INVALID);
    CHECK_INT(address_parse("[::1]:1", &a, &err), OK);
    CHECK(address_is_local(&a) && !address_is_unix(&a));
    CHECK_INT(address_parse("0.0.0.0:1", &a, &err), OK);
    CHECK(!address_is_local(&a));
}

static void check_connects(const struct address *a, int listener)
{
    struct error err = {""};
    int fd = -1;
    bool done = false;
    CHECK_INT(address_connect(a, &fd, &done, &err), OK);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    CHECK_INT(poll(&p, 1, 5000), 1);
    CHECK_INT(address_connected(fd, &err), OK);
    struct pollfd l = {.fd = listener, .events = POLLIN};
    CHECK_INT(poll(&l, 1, 5000), 1);
    int other = accept(listener, NULL, NULL);
    CHECK(other >= 0);
    address_tune(other);
    close(other);
    close(fd);
}

static void test_unix(void)
{
    char text[128];
    snprintf(text, sizeof text, "unix:%s/s", folder);
    struct address a;
    struct error err = {""};
    CHECK_INT(address_parse(text, &a, &err), OK);
    int fd = -1, second = -1;
    CHECK_INT(address_listen(&a, NULL, &fd, &err), OK);
    check_connects(&a, fd);
    CHECK_INT(address_listen(&a, NULL, &second, &err), CONFLICT);
    CHECK(strstr(err.text, "another process"));
    CHECK_INT(second, -1);
    close(fd);
    /* The file of a listener that is gone: nobody answers, so it is replaced. */
    CHECK_INT(access(text + 5, F_OK), 0);
    int none;
    bool done;
    CHECK_INT(address_connect(&a, &none, &done, &err), UNAVAILABLE);
    CHECK_INT(address_listen(&a, NULL, &fd, &err), OK);
    check_connects(&a, fd);
    CHECK_INT(address_port(fd), 0);
    close(fd);
    address_unlink(&a);
    CHECK(access(text + 5, F_OK) != 0);
    FILE *f = fopen(text + 5, "w");
    CHECK_FATAL(f);
    fclose(f);
    CHECK_INT(address_listen(&a, NULL, &fd, &err), CONFLICT); /* an ordinary file stays */
    address_unlink(&a);
    CHECK_INT(access(text + 5, F_OK), 0);
    unlink(text + 5);
}

static void test_tcp(void)
{
    struct address a;
    struct error err = {""};
    CHECK_INT(address_parse("127.0.0.1:0", &a, &err), OK);
    int fd = -1;
    CHECK_INT(address_listen(&a, NULL, &fd, &err), OK);
    int port = address_port(fd);
    CHECK(port > 0);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%d", port);
    CHECK_INT(address_parse(text, &a, &err), OK);
    check_connects(&a, fd);
    int second;
    CHECK_INT(address_listen(&a, NULL, &second, &err), CONFLICT);
    close(fd);
    struct address_listen_options o = {.reuse_port = true};
    CHECK_INT(address_listen(&a, &o, &fd, &err), OK);
    CHECK_INT(address_listen(&a, &o, &second, &err), OK);
    close(fd);
    close(second);
}

int main(void)
{
    CHECK_FATAL(mkdtemp(folder));
    test_parse();
    test_unix();
    test_tcp();
    rmdir(folder);
    return check_done();
}
