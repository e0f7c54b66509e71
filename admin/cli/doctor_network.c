/* The checks of what listens: daemons, their ports, workers. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/cli/doctor.h"
#include "admin/cli/parts.h"
#include "admin/cli/probe.h"
#include "base/wire.h"

enum { PROBE_TIMEOUT_MS = 2000, ADDRESS_MAX = 256 };

/* A daemon that does not run: can it have its port? */
static void check_port(struct doctor *d, const char *section)
{
    char text[ADDRESS_MAX], check[64], detail[ADDRESS_MAX + 300];
    struct address a;
    struct error err = {0};
    snprintf(check, sizeof check, "port of %s", section);
    if (!doctor_setting(d, section, "listen", text, sizeof text))
        return;
    int fd = -1;
    enum status st = address_parse(text, &a, &err);
    if (st == OK && address_is_unix(&a))
        return;
    if (st == OK)
        st = address_listen(&a, NULL, &fd, &err);
    if (fd >= 0)
        close(fd);
    if (st == OK) {
        snprintf(detail, sizeof detail, "%s is free", text);
        doctor_find(d, FINDING_OK, check, detail, NULL);
    } else {
        snprintf(detail, sizeof detail, "%s", err.text);
        doctor_find(d, FINDING_FAIL, check, detail,
                    "stop the program that has it (ss -ltnp shows which), or choose another "
                    "listen in that section");
    }
}

static void check_daemon(struct doctor *d, const char *name)
{
    struct address a;
    struct error err = {0};
    struct probe_answer answer;
    char detail[700];
    if (parts_probe_address(d->c->config, name, &a, &err) != OK) {
        doctor_find(d, FINDING_WARN, name, err.text,
                    "set it, for instance unix:/run/tollgate/x.sock");
        return;
    }
    enum status st = probe_get(&a, "/readyz", PROBE_TIMEOUT_MS, &answer, &err);
    if (st == OK && answer.status == 200) {
        doctor_find(d, FINDING_OK, name, "runs and is ready", NULL);
        return;
    }
    if (st == OK) {
        snprintf(detail, sizeof detail, "runs but is not ready: %s", answer.body);
        doctor_find(d, FINDING_FAIL, name, detail, "mend what it names; see STATE/log for more");
        return;
    }
    if (st != UNAVAILABLE) {
        doctor_find(d, FINDING_FAIL, name, err.text, "restart it; see STATE/log for why it hangs");
        return;
    }
    snprintf(detail, sizeof detail, "does not run (%s)", err.text);
    doctor_find(d, FINDING_WARN, name, detail, "start the stack: tollgate --config FILE up");
    check_port(d, name);
}

void doctor_check_daemons(struct doctor *d)
{
    static const char *const names[PARTS] = {"worker", "billing", "gateway", "admin"};
    for (int i = 0; i < PARTS; i++)
        check_daemon(d, names[i]);
}

/* Sends our HELLO and reads the worker's. */
static enum status exchange_hello(int fd, char *out, size_t size, struct error *err)
{
    struct buf wire;
    buf_init(&wire, WIRE_PAYLOAD_MAX + WIRE_HEADER_BYTES);
    Wire__Hello hello = WIRE__HELLO__INIT;
    hello.version = WIRE_VERSION;
    hello.oldest_version = WIRE_OLDEST;
    hello.node_id = (char *)"00000000-0000-7000-8000-000000000000";
    hello.software = (char *)"tollgate doctor";
    enum status st = wire_put(&wire, WIRE__FRAME_TYPE__HELLO, 0, &hello.base);
    if (st == OK && send(fd, buf_head(&wire), buf_len(&wire), MSG_NOSIGNAL) < 0)
        st = error_errno(err, errno, "send");
    buf_clear(&wire);
    struct wire_frame frame;
    size_t used;
    while (st == OK && (st = wire_next(&wire, &frame, &used, err)) == NOT_FOUND) {
        char chunk[4096];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        st = n > 0 ? buf_add(&wire, chunk, (size_t)n)
                   : error_set(err, CLOSED, n == 0 ? "it closes the connection" : "no answer");
    }
    Wire__Hello *answer = NULL;
    if (st == OK && frame.type == WIRE__FRAME_TYPE__HELLO)
        answer = wire_unpack(hello, &frame);
    if (st == OK && (!answer || wire_check_hello(answer, err) != OK))
        st = error_set(err, CORRUPT, "what answers there is no worker");
    if (st == OK)
        snprintf(out, size, "answers, serves %s",
                 answer->n_models ? answer->models[0]->name : "no model");
    if (answer)
        wire__hello__free_unpacked(answer, NULL);
    buf_done(&wire);
    return st;
}

static void check_worker(struct doctor *d, const char *text)
{
    struct address a;
    struct error err = {0};
    char check[ADDRESS_MAX + 20], detail[300];
    snprintf(check, sizeof check, "worker %s", text);
    enum status st = address_parse(text, &a, &err);
    if (st != OK) {
        doctor_find(d, FINDING_FAIL, check, err.text, "correct [gateway] workers");
        return;
    }
    int fd = probe_connect(&a, PROBE_TIMEOUT_MS, &err);
    if (fd < 0) {
        doctor_find(d, FINDING_WARN, check, err.text,
                    "start it (tollgate up), or take it out of [gateway] workers");
        return;
    }
    st = exchange_hello(fd, detail, sizeof detail, &err);
    close(fd);
    if (st == OK)
        doctor_find(d, FINDING_OK, check, detail, NULL);
    else
        doctor_find(d, FINDING_FAIL, check, err.text, "restart it; see its log for why");
}

void doctor_check_workers(struct doctor *d)
{
    char list[4096];
    if (!doctor_setting(d, "gateway", "workers", list, sizeof list)) {
        doctor_find(d, FINDING_FAIL, "workers", "[gateway] workers is not set",
                    "list the workers: workers = unix:/path, host:port");
        return;
    }
    for (char *at = list; *at;) {
        size_t n = strcspn(at, ",");
        bool more = at[n] == ',';
        at[n] = 0;
        char *text = at + strspn(at, " \t");
        text[strcspn(text, " \t")] = 0;
        if (*text)
            check_worker(d, text);
        at += n + more;
    }
}
