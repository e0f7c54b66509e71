/* The checks of what lies on this machine: programs, state folder, certificates, model. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "admin/cli/doctor.h"
#include "admin/cli/parts.h"
#include "base/clock.h"
#include "base/tls.h"

#define GIB (1024.0 * 1024 * 1024)
enum { DAY_MS = 86400000, EXPIRY_WARN_DAYS = 14 };

void doctor_check_programs(struct doctor *d)
{
    static const char *const names[PARTS] = {"worker", "billing", "gateway", "admin"};
    char path[PATH_MAX], detail[PATH_MAX + 100];
    for (int i = 0; i < PARTS; i++) {
        struct error err;
        if (parts_program(names[i], path, sizeof path, &err) == OK && access(path, X_OK) == 0)
            continue;
        snprintf(detail, sizeof detail, "tollgate-%s is not beside this program", names[i]);
        doctor_find(d, FINDING_FAIL, "programs", detail,
                    "build it (cmake --build build) or install it there");
        return;
    }
    doctor_find(d, FINDING_OK, "programs", "all four daemons are beside this program", NULL);
}

static bool can_write(const char *folder, char *why, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.doctor.%d", folder, (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0;
    if (!good)
        snprintf(why, size, "%s: %s", folder, strerror(errno));
    if (fd >= 0) {
        close(fd);
        unlink(path);
    }
    return good;
}

static void check_disk(struct doctor *d, const char *folder)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) < 0)
        return;
    double free_gib = (double)fs.f_bavail * (double)fs.f_frsize / GIB;
    char detail[100];
    snprintf(detail, sizeof detail, "%.1f GiB free for journals and logs", free_gib);
    enum finding f = free_gib < 0.1 ? FINDING_FAIL : free_gib < 2 ? FINDING_WARN : FINDING_OK;
    doctor_find(d, f, "disk", detail,
                f == FINDING_OK ? NULL : "free some space: a gateway with a full disk answers 503");
}

void doctor_check_state(struct doctor *d)
{
    const char *folder = d->c->settings.state_dir;
    char why[PATH_MAX + 200], mend[PATH_MAX + 200];
    if (can_write(folder, why, sizeof why)) {
        doctor_find(d, FINDING_OK, "state folder", folder, NULL);
        check_disk(d, folder);
        return;
    }
    snprintf(mend, sizeof mend,
             "create it and give it to the user of the daemons: "
             "install -d -m 750 -o USER %s",
             folder);
    doctor_find(d, FINDING_FAIL, "state folder", why, mend);
}

static void check_certificate(struct doctor *d, const char *section)
{
    char certificate[PATH_MAX], key[PATH_MAX], check[64], detail[600];
    snprintf(check, sizeof check, "certificate of %s", section);
    if (!doctor_setting(d, section, "certificate_file", certificate, sizeof certificate) ||
        !doctor_setting(d, section, "key_file", key, sizeof key)) {
        snprintf(detail, sizeof detail, "[%s] certificate_file or key_file is not set", section);
        doctor_find(d, FINDING_FAIL, check, detail,
                    "set both; for a trial: openssl req -x509 -newkey ec -pkeyopt "
                    "ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key -out cert");
        return;
    }
    struct error err = {0};
    struct tls_options options = {.certificate_file = certificate, .key_file = key};
    struct tls_server *tls = tls_server_new(&options, &err);
    if (!tls) {
        doctor_find(d, FINDING_FAIL, check, err.text,
                    "renew the certificate or correct the two settings, then send SIGHUP");
    } else {
        int64_t days = (tls_server_expires_ms(tls) - clock_wall_ms()) / DAY_MS;
        bool soon = days < EXPIRY_WARN_DAYS;
        snprintf(detail, sizeof detail, "valid for %lld more days", (long long)days);
        doctor_find(d, soon ? FINDING_WARN : FINDING_OK, check, detail,
                    soon ? "renew it, then send SIGHUP: no connection is lost" : NULL);
    }
    tls_server_free(tls);
}

void doctor_check_certificates(struct doctor *d)
{
    check_certificate(d, "gateway");
    check_certificate(d, "admin");
}

static bool has_weights(const char *folder)
{
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        found = len > 12 && strcmp(e->d_name + len - 12, ".safetensors") == 0;
    }
    if (dir)
        closedir(dir);
    return found;
}

void doctor_check_model(struct doctor *d)
{
    char folder[PATH_MAX - 100], path[PATH_MAX], backend[32] = "cpu", detail[PATH_MAX + 200];
    static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    doctor_setting(d, "worker", "backend", backend, sizeof backend);
    if (strcmp(backend, "cpu") != 0)
        return;
    if (!doctor_setting(d, "worker", "model_dir", folder, sizeof folder)) {
        doctor_find(d, FINDING_FAIL, "model", "[worker] model_dir is not set",
                    "set it to a folder with config.json, tokenizer.json and *.safetensors");
        return;
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (access(path, R_OK) == 0)
            continue;
        snprintf(detail, sizeof detail, "%s: %s", path, strerror(errno));
        doctor_find(d, FINDING_FAIL, "model", detail,
                    "download the whole model folder and let the worker's user read it");
        return;
    }
    if (has_weights(folder))
        doctor_find(d, FINDING_OK, "model", folder, NULL);
    else
        doctor_find(d, FINDING_FAIL, "model", "no *.safetensors in [worker] model_dir",
                    "download the weights of the model");
}
