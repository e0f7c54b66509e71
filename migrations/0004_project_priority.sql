-- Which of the requests that wait for a place at a model begin first: those of the project with
-- the higher priority. The operator's word; 0 is normal.
ALTER TABLE projects
    ADD COLUMN priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);

CREATE OR REPLACE VIEW key_records AS
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
       coalesce(lt.concurrency, 0) AS tenant_concurrency,
       p.priority
FROM api_keys k
JOIN projects p ON p.id = k.project_id
JOIN tenants t ON t.id = p.tenant_id
LEFT JOIN limits lk ON lk.subject_kind = 'key' AND lk.subject_id = k.id
LEFT JOIN limits lp ON lp.subject_kind = 'project' AND lp.subject_id = p.id
LEFT JOIN limits lt ON lt.subject_kind = 'tenant' AND lt.subject_id = t.id;
