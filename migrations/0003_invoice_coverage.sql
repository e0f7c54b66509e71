-- Which usage an invoice is for: for each month, the shipping batches. A batch's events of one
-- month are on one invoice. What a void invoice covered is free again, for the next one.

CREATE TABLE invoice_coverage (
    invoice_id bigint NOT NULL REFERENCES invoices,
    month      date NOT NULL CHECK (month = date_trunc('month', month)::date),
    batches    int8multirange NOT NULL CHECK (NOT isempty(batches)),
    PRIMARY KEY (invoice_id, month)
);
CREATE TRIGGER invoice_coverage_final BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_coverage
    FOR EACH STATEMENT EXECUTE FUNCTION tg_is_final();

-- What an invoice of a period that ends before `ends` would cover now, batches up to `watermark`:
-- everything that no invoice has, void ones apart.
CREATE FUNCTION tg_invoice_coverage(tenant uuid, ends date, watermark bigint)
RETURNS TABLE (month date, batches int8multirange) LANGUAGE sql STABLE AS $$
    SELECT m.month, int8multirange(int8range(0, watermark, '(]')) - coalesce(taken.batches, '{}')
    FROM (SELECT generate_series(date_trunc('month', min(day)), ends::timestamp - interval '1 day',
                                 interval '1 month')::date AS month
          FROM usage_events WHERE tenant_id = tenant) m
    CROSS JOIN LATERAL (
        SELECT range_agg(b) AS batches FROM invoice_coverage c
        JOIN invoices i ON i.id = c.invoice_id CROSS JOIN LATERAL unnest(c.batches) b
        WHERE i.tenant_id = tenant AND i.state <> 'void' AND c.month = m.month) taken
    WHERE NOT isempty(int8multirange(int8range(0, watermark, '(]')) - coalesce(taken.batches, '{}'))
$$;
