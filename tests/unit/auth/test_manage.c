/* Changes to tenants, projects, keys and limits, each with its row in the audit log. */
#include "auth/manage.h"

#include "tests/unit/auth/fresh_db.h"

static struct error err;
static struct pg *pg;
static const struct actor actor = {"ada", "test"};
static struct uuid tenant, project, key_id;
static struct secret key;

static int64_t count(const char *sql)
{
    struct pg_result *r = NULL;
    CHECK_FATAL(pg_query(pg, sql, 0, NULL, &r, &err) == OK);
    int64_t n = pg_int(r, 0, 0);
    pg_result_free(r);
    return n;
}

static void create(void)
{
    struct tenant_new t = {"acme", "USD", true, "{\"name\": \"Acme\"}"};
    CHECK_INT(tenant_create(pg, &actor, &t, &tenant, &err), OK);
    CHECK_INT(tenant_create(pg, &actor, &t, &tenant, &err), CONFLICT);
    CHECK_STR(err.text, "there is a tenant 'acme' already");
    static const char *const bad[] = {"",
                                      "Acme",
                                      "a b",
                                      "-a",
                                      "a-",
                                      "a_b",
                                      "x'; drop table tenants",
                                      "0199aaaa-0000-7000-8000-000000000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t.name = bad[i];
        struct uuid id;
        CHECK_INT(tenant_create(pg, &actor, &t, &id, &err), INVALID);
    }
    t = (struct tenant_new){"other", "dollars", true, NULL};
    CHECK_INT(tenant_create(pg, &actor, &t, &tenant, &err), INVALID);
    CHECK_INT(project_create(pg, &actor, &tenant, "web", &project, &err), OK);
    CHECK_INT(project_create(pg, &actor, &tenant, "web", &project, &err), CONFLICT);
    CHECK_INT(project_create(pg, &actor, &project, "web", &project, &err), NOT_FOUND);

    static const char *const models[] = {"m\"1", "m2"};
    struct key_new k = {project, "ci", models, 2, "2099-01-01"};
    CHECK_INT(key_create(pg, &actor, &k, &key_id, &key, &err), OK);
    CHECK(key_text_valid(KEY_API, key.text, strlen(key.text)));
    CHECK_INT(key_create(pg, &actor, &k, &key_id, &key, &err), CONFLICT);
    k.expires_at = "whenever";
    k.name = "ci2";
    CHECK_INT(key_create(pg, &actor, &k, &key_id, &key, &err), INVALID);
    CHECK_INT(count("SELECT cardinality(models) FROM api_keys WHERE 'm\"1' = ANY (models)"), 2);
}

static void on_hash(const char *sha256_hex, void *arg)
{
    char want[2 * SHA256_BYTES + 1];
    key_text_hash_hex(key.text, strlen(key.text), want);
    CHECK_STR(sha256_hex, want);
    ++*(int *)arg;
}

static void change(void)
{
    int hashes = 0;
    CHECK_INT(manage_key_hashes(pg, SUBJECT_TENANT, &tenant, on_hash, &hashes, &err), OK);
    CHECK_INT(manage_key_hashes(pg, SUBJECT_PROJECT, &project, on_hash, &hashes, &err), OK);
    CHECK_INT(manage_key_hashes(pg, SUBJECT_KEY, &key_id, on_hash, &hashes, &err), OK);
    CHECK_INT(hashes, 3);

    int64_t version = count("SELECT max(version) FROM key_records");
    struct limits l = {10, -1, -1};
    CHECK_INT(limit_set(pg, &actor, SUBJECT_KEY, &key_id, &l, &err), OK);
    l = (struct limits){-1, 2000, -1};
    CHECK_INT(limit_set(pg, &actor, SUBJECT_KEY, &key_id, &l, &err), OK);
    CHECK_INT(count("SELECT requests_per_min FROM limits"), 10);
    CHECK_INT(count("SELECT tokens_per_min FROM limits"), 2000);
    CHECK_INT(limit_set(pg, &actor, SUBJECT_KEY, &tenant, &l, &err), NOT_FOUND);
    CHECK(count("SELECT max(version) FROM key_records") > version);

    version = count("SELECT max(version) FROM key_records");
    CHECK_INT(project_set_priority(pg, &actor, &project, 101, &err), INVALID);
    CHECK_INT(project_set_priority(pg, &actor, &tenant, 1, &err), NOT_FOUND);
    CHECK_INT(project_set_priority(pg, &actor, &project, -7, &err), OK);
    CHECK_INT(count("SELECT priority FROM key_records"), -7);
    CHECK(count("SELECT max(version) FROM key_records") > version);

    struct key_change kc = {.model_count = 0};
    CHECK_INT(key_update(pg, &actor, &key_id, &kc, &err), OK);
    CHECK_INT(count("SELECT cardinality(models) FROM api_keys"), 0);
    CHECK_INT(count("SELECT count(*) FROM api_keys WHERE expires_at IS NOT NULL"), 1);
    kc = (struct key_change){.model_count = -1, .expires_at = ""};
    CHECK_INT(key_update(pg, &actor, &key_id, &kc, &err), OK);
    CHECK_INT(count("SELECT count(*) FROM api_keys WHERE expires_at IS NULL"), 1);

    CHECK_INT(tenant_set_status(pg, &actor, &tenant, "suspended", &err), OK);
    CHECK_INT(count("SELECT count(*) FROM key_records WHERE revoked"), 1);
    CHECK_INT(tenant_set_status(pg, &actor, &tenant, "closed", &err), INVALID);
    CHECK_INT(tenant_set_status(pg, &actor, &tenant, "active", &err), OK);
    CHECK_INT(tenant_set_legal(pg, &actor, &tenant, "[]", &err), INVALID);
    CHECK_INT(key_revoke(pg, &actor, &key_id, &err), OK);
    CHECK_INT(key_revoke(pg, &actor, &key_id, &err), NOT_FOUND);
    CHECK_INT(count("SELECT count(*) FROM key_records WHERE revoked"), 1);
}

static void administrators(void)
{
    struct uuid id;
    struct secret admin;
    struct admin_identity who;
    CHECK_INT(admin_key_create(pg, &actor, "ops", "emperor", &id, &admin, &err), INVALID);
    CHECK_INT(admin_key_create(pg, &actor, "ops", "owner", &id, &admin, &err), OK);
    CHECK_INT(admin_key_find(pg, admin.text, strlen(admin.text), &who, &err), OK);
    CHECK_STR(who.role, "owner");
    CHECK_INT(admin_key_find(pg, key.text, strlen(key.text), &who, &err), DENIED);
    CHECK_INT(admin_key_find(pg, "", 0, &who, &err), DENIED);
    CHECK_INT(admin_key_revoke(pg, &actor, "ops", &err), OK);
    CHECK_INT(admin_key_find(pg, admin.text, strlen(admin.text), &who, &err), DENIED);
}

static void audit(void)
{
    CHECK_INT(count("SELECT count(*) FROM audit_log WHERE actor = 'ada' AND source = 'test'"), 13);
    CHECK_INT(
        count("SELECT count(*) FROM audit_log WHERE before::text ~ 'sha256|sk-tg-[0-9A-Za-z]{10}'"
              " OR after::text ~ 'sha256|sk-tg-[0-9A-Za-z]{10}'"),
        0);
    CHECK_INT(
        count("SELECT count(*) FROM audit_log WHERE action = 'limit.set'"
              " AND before->>'requests_per_min' = '10' AND after->>'tokens_per_min' = '2000'"),
        1);
}

int main(void)
{
    pg = fresh_schema("manage");
    create();
    change();
    administrators();
    audit();
    pg_free(pg);
    return check_done();
}
