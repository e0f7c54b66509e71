-- Tenants, projects, keys, limits, administrators and the audit log.

CREATE FUNCTION tg_is_slug(name text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
      -- A name must not read as an id: commands accept either.
      AND name !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' $$;

CREATE TABLE tenants (
    id           uuid PRIMARY KEY,
    name         text NOT NULL UNIQUE CHECK (tg_is_slug(name)),
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    billing_mode text NOT NULL CHECK (billing_mode IN ('prepaid', 'postpaid')),
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    -- What an invoice says of the buyer: name, address, tax_id, country, email, ...
    legal        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(legal) = 'object'),
    version      bigint NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE projects (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL REFERENCES tenants,
    name       text NOT NULL CHECK (tg_is_slug(name)),
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    version    bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE api_keys (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects,
    name       text NOT NULL CHECK (tg_is_slug(name)),
    sha256     bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    prefix     text NOT NULL CHECK (length(prefix) BETWEEN 8 AND 16),
    -- Models the key may call; empty: all.
    models     text[] NOT NULL DEFAULT '{}' CHECK (cardinality(models) <= 32),
    expires_at timestamptz,
    revoked_at timestamptz,
    version    bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX api_keys_live_name ON api_keys (project_id, name) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_prefix ON api_keys (prefix);

-- 0: no limit.
CREATE TABLE limits (
    subject_kind     text NOT NULL CHECK (subject_kind IN ('key', 'project', 'tenant')),
    subject_id       uuid NOT NULL,
    requests_per_min bigint NOT NULL DEFAULT 0 CHECK (requests_per_min BETWEEN 0 AND 1000000000000),
    tokens_per_min   bigint NOT NULL DEFAULT 0 CHECK (tokens_per_min BETWEEN 0 AND 1000000000000),
    concurrency      bigint NOT NULL DEFAULT 0 CHECK (concurrency BETWEEN 0 AND 1000000000),
    PRIMARY KEY (subject_kind, subject_id)
);

CREATE TABLE admin_keys (
    id         uuid PRIMARY KEY,
    name       text NOT NULL CHECK (tg_is_slug(name)),
    sha256     bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    prefix     text NOT NULL CHECK (length(prefix) BETWEEN 8 AND 20),
    role       text NOT NULL CHECK (role IN ('owner', 'admin', 'finance', 'developer', 'auditor')),
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX admin_keys_live_name ON admin_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE audit_log (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    actor        text NOT NULL, -- who: a login name or an administrator's key name
    source       text NOT NULL, -- from where: a program, or an address
    action       text NOT NULL,
    subject_kind text NOT NULL,
    subject_id   text NOT NULL,
    before       jsonb,
    after        jsonb
);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id, id);

CREATE FUNCTION tg_audit_is_final() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER audit_log_final BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION tg_audit_is_final();

-- The version of a key's record is the sum of the versions of its key, project and tenant rows.
-- Each row is locked while it changes, so the sum grows with every change that commits, and two
-- records of equal version are equal. Limits have no version of their own: changing one counts
-- as a change of its subject.
CREATE FUNCTION tg_next_version() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.version := OLD.version + 1; RETURN NEW; END $$;
CREATE TRIGGER tenants_version BEFORE UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION tg_next_version();
CREATE TRIGGER projects_version BEFORE UPDATE ON projects
    FOR EACH ROW EXECUTE FUNCTION tg_next_version();
CREATE TRIGGER api_keys_version BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tg_next_version();

-- Each affected key is announced on tollgate_invalidate by the hex of its SHA-256.
CREATE FUNCTION tg_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'api_keys' THEN
        PERFORM pg_notify('tollgate_invalidate', encode(NEW.sha256, 'hex'));
    ELSIF TG_TABLE_NAME = 'projects' THEN
        PERFORM pg_notify('tollgate_invalidate', encode(k.sha256, 'hex'))
        FROM api_keys k WHERE k.project_id = NEW.id;
    ELSE
        PERFORM pg_notify('tollgate_invalidate', encode(k.sha256, 'hex'))
        FROM api_keys k JOIN projects p ON p.id = k.project_id WHERE p.tenant_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tenants_announce AFTER UPDATE ON tenants
    FOR EACH ROW EXECUTE FUNCTION tg_announce();
CREATE TRIGGER projects_announce AFTER UPDATE ON projects
    FOR EACH ROW EXECUTE FUNCTION tg_announce();
CREATE TRIGGER api_keys_announce AFTER INSERT OR UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tg_announce();
CREATE INDEX api_keys_project ON api_keys (project_id);

CREATE FUNCTION tg_limit_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row limits := coalesce(NEW, OLD);
BEGIN
    IF row.subject_kind = 'key' THEN
        UPDATE api_keys SET version = version WHERE id = row.subject_id;
    ELSIF row.subject_kind = 'project' THEN
        UPDATE projects SET version = version WHERE id = row.subject_id;
    ELSE
        UPDATE tenants SET version = version WHERE id = row.subject_id;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such %', row.subject_kind
            USING ERRCODE = '23503', CONSTRAINT = 'limits_subject';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OR DELETE ON limits
    FOR EACH ROW EXECUTE FUNCTION tg_limit_changed();

-- What a gateway needs of a key, as auth/key_record.h has it.
CREATE VIEW key_records AS
SELECT k.sha256, k.id AS key_id, p.id AS project_id, t.id AS tenant_id,
       k.version + p.version + t.version AS version,
       coalesce((extract(epoch FROM k.expires_at) * 1000)::bigint, 0) AS expires_ms,
       k.revoked_at IS NOT NULL OR p.status <> 'active' OR t.status <> 'active' AS revoked,
       t.billing_mode = 'prepaid' AS prepaid, t.currency, to_jsonb(k.models) AS models,
       coalesce(lk.requests_per_min, 0) AS key_requests, coalesce(lk.tokens_per_min, 0) AS key_tokens,
       coalesce(lk.concurrency, 0) AS key_concurrency,
       coalesce(lp.requests_per_min, 0) AS project_requests,
       coalesce(lp.tokens_per_min, 0) AS project_tokens,
       coalesce(lp.concurrency, 0) AS project_concurrency,
       coalesce(lt.requests_per_min, 0) AS tenant_requests,
       coalesce(lt.tokens_per_min, 0) AS tenant_tokens,
       coalesce(lt.concurrency, 0) AS tenant_concurrency
FROM api_keys k
JOIN projects p ON p.id = k.project_id
JOIN tenants t ON t.id = p.tenant_id
LEFT JOIN limits lk ON lk.subject_kind = 'key' AND lk.subject_id = k.id
LEFT JOIN limits lp ON lp.subject_kind = 'project' AND lp.subject_id = p.id
LEFT JOIN limits lt ON lt.subject_kind = 'tenant' AND lt.subject_id = t.id;
