/* A redis-server of one test program's own, that it may stop, continue and kill. */
#ifndef TESTS_UNIT_OWN_REDIS_H
#define TESTS_UNIT_OWN_REDIS_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/check.h"

struct own_redis {
    char dir[64], url[128], path[96];
    pid_t pid;
};

static inline bool own_redis_answers(const struct own_redis *r)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof sun.sun_path, "%s", r->path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool up = connect(fd, (struct sockaddr *)&sun, sizeof sun) == 0;
    close(fd);
    return up;
}

static inline void own_redis_launch(struct own_redis *r)
{
    unlink(r->path);
    r->pid = fork();
    if (r->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", r->path, "--save", "",
               "--appendonly", "no", "--dir", r->dir, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 500 && !own_redis_answers(r); i++) {
        if (waitpid(r->pid, NULL, WNOHANG) == r->pid)
            CHECK_SKIP("redis-server does not start");
        usleep(10 * 1000);
    }
    CHECK_FATAL(own_redis_answers(r));
}

static inline void own_redis_kill(struct own_redis *r)
{
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
}

static inline void own_redis_start(struct own_redis *r)
{
    snprintf(r->dir, sizeof r->dir, "/tmp/tollgate-unit.XXXXXX");
    CHECK_FATAL(mkdtemp(r->dir));
    snprintf(r->path, sizeof r->path, "%s/redis.sock", r->dir);
    snprintf(r->url, sizeof r->url, "unix:%s", r->path);
    own_redis_launch(r);
}

static inline void own_redis_end(struct own_redis *r)
{
    own_redis_kill(r);
    unlink(r->path);
    rmdir(r->dir);
}

#endif
