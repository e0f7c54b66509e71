-- Prices, usage events, the shipping of journals, the ledger and invoices.
-- Money is in pico-units of the currency: bigint per token, numeric(38,0) for sums.

CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE FUNCTION tg_is_final() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23514'; END $$;

-- Prices. A row is one version: its rates never change, only its end may be set.
CREATE TABLE prices (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model           text NOT NULL CHECK (length(model) BETWEEN 1 AND 127),
    tenant_id       uuid REFERENCES tenants, -- NULL: for all tenants without a price of their own
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    input_miss_pico bigint NOT NULL CHECK (input_miss_pico BETWEEN 0 AND 1000000000000000),
    input_hit_pico  bigint NOT NULL CHECK (input_hit_pico BETWEEN 0 AND 1000000000000000),
    output_pico     bigint NOT NULL CHECK (output_pico BETWEEN 0 AND 1000000000000000),
    -- Batch requests cost so many thousandths of the three rates, which must come out whole.
    batch_permille  int NOT NULL DEFAULT 1000 CHECK (batch_permille BETWEEN 0 AND 1000),
    valid           tstzrange NOT NULL CHECK (NOT isempty(valid) AND lower_inc(valid)
                                              AND NOT upper_inc(valid)),
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT prices_batch_whole CHECK (input_miss_pico * batch_permille % 1000 = 0
        AND input_hit_pico * batch_permille % 1000 = 0 AND output_pico * batch_permille % 1000 = 0),
    CONSTRAINT prices_overlap EXCLUDE USING gist (model WITH =,
        (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'::uuid)) WITH =,
        currency WITH =, valid WITH &&)
);

CREATE FUNCTION tg_price_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (NEW.id, NEW.model, NEW.tenant_id, NEW.currency, NEW.input_miss_pico,
            NEW.input_hit_pico, NEW.output_pico, NEW.batch_permille, lower(NEW.valid))
        IS DISTINCT FROM (OLD.id, OLD.model, OLD.tenant_id, OLD.currency, OLD.input_miss_pico,
            OLD.input_hit_pico, OLD.output_pico, OLD.batch_permille, lower(OLD.valid)) THEN
        RAISE EXCEPTION 'of a price only the end may change' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER prices_final BEFORE UPDATE OR DELETE ON prices
    FOR EACH ROW EXECUTE FUNCTION tg_price_changed();
CREATE FUNCTION tg_prices_announce() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NOTIFY tollgate_prices; RETURN NULL; END $$;
CREATE TRIGGER prices_announce AFTER INSERT OR UPDATE ON prices
    FOR EACH STATEMENT EXECUTE FUNCTION tg_prices_announce();

-- Shipping. A batch is one transaction of the one leader, so ids are committed in their order.
CREATE TABLE shipping_batches (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    source     uuid NOT NULL,
    shard      int NOT NULL,
    admits     bigint NOT NULL,
    settles    bigint NOT NULL
);

CREATE TABLE journal_cursors (
    source     uuid NOT NULL,   -- of the journal folder
    shard      int NOT NULL,
    seq        bigint NOT NULL, -- of the segment
    position   bigint NOT NULL, -- bytes into its file
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, shard)
);

-- Requests that a journal admitted and has not settled yet.
CREATE TABLE open_holds (
    request_id  uuid PRIMARY KEY,
    source      uuid NOT NULL,
    shard       int NOT NULL,
    seq         bigint NOT NULL,
    tenant_id   uuid NOT NULL,
    project_id  uuid NOT NULL,
    key_id      uuid NOT NULL,
    prepaid     boolean NOT NULL,
    hold_nano   bigint NOT NULL,
    hold_tokens bigint NOT NULL,
    admitted_at timestamptz NOT NULL
);
CREATE INDEX open_holds_tenant ON open_holds (tenant_id);
CREATE INDEX open_holds_segment ON open_holds (source, shard, seq);

-- The UTC day inside a UUIDv7, so that a duplicate always meets its first in one partition.
CREATE FUNCTION tg_uuid_day(id uuid) RETURNS date LANGUAGE sql IMMUTABLE STRICT AS
$$ SELECT (timestamp '1970-01-01' + interval '1 second'
           * (('x' || substr(replace(id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000))::date $$;

CREATE TABLE usage_events (
    id                    uuid NOT NULL, -- the request's
    day                   date NOT NULL CHECK (day = tg_uuid_day(id)),
    tenant_id             uuid NOT NULL,
    project_id            uuid NOT NULL,
    key_id                uuid NOT NULL,
    model                 text NOT NULL,
    price_id              bigint NOT NULL,
    currency              text NOT NULL,
    outcome               text NOT NULL CHECK (outcome IN ('finished', 'cancelled', 'failed')),
    attempt               int NOT NULL,
    prompt_tokens         bigint NOT NULL CHECK (prompt_tokens >= 0),
    cached_tokens         bigint NOT NULL CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
    completion_tokens     bigint NOT NULL CHECK (completion_tokens >= 0),
    reasoning_tokens      bigint NOT NULL CHECK (reasoning_tokens >= 0),
    cost_pico             numeric(38, 0) NOT NULL CHECK (cost_pico >= 0),
    admitted_at           timestamptz NOT NULL,
    settled_at            timestamptz NOT NULL,
    batch_id              bigint NOT NULL,
    ledger_transaction_id bigint, -- NULL: nothing to pay
    PRIMARY KEY (id, day),
    CHECK (outcome <> 'failed' OR cost_pico = 0)
) PARTITION BY RANGE (day);
CREATE INDEX usage_events_tenant ON usage_events (tenant_id, batch_id);
CREATE TRIGGER usage_events_final BEFORE UPDATE OR DELETE ON usage_events
    FOR EACH ROW EXECUTE FUNCTION tg_is_final();

-- Makes the partition of a day. Attaching, unlike creating in place, does not stop readers.
CREATE FUNCTION tg_usage_partition(wanted date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part text := 'usage_events_' || to_char(wanted, 'YYYYMMDD');
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('tg_usage_partition'));
    IF to_regclass(part) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
        EXECUTE format('ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       part, wanted, wanted + 1);
    END IF;
END $$;

-- What a journal said that does not fit what is stored. Never deleted: reconcile names them.
CREATE TABLE usage_conflicts (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id uuid NOT NULL,
    reason     text NOT NULL CHECK (reason IN ('content', 'cost')),
    batch_id   bigint NOT NULL,
    journal    jsonb NOT NULL, -- as the journal has it
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (request_id, reason, journal) -- shipping again finds the same again
);

-- The ledger. Debits are positive, credits negative; balance_pico is the sum of the entries.
-- A tenant's credit is therefore the negated balance of its granted and paid accounts.
CREATE TABLE ledger_accounts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    kind         text NOT NULL CHECK (kind IN
                     ('granted', 'paid', 'receivable', 'revenue', 'promotion', 'cash')),
    currency     text NOT NULL,
    balance_pico numeric(38, 0) NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, kind, currency)
);

CREATE TABLE ledger_transactions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('usage', 'grant', 'payment', 'invoice_payment')),
    tenant_id  uuid NOT NULL REFERENCES tenants,
    project_id uuid REFERENCES projects,
    batch_id   bigint REFERENCES shipping_batches,
    period     date, -- usage: the first day of the month the usage is of
    reference  text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'usage') = (batch_id IS NOT NULL AND period IS NOT NULL AND project_id IS NOT NULL))
);
CREATE INDEX ledger_transactions_batch ON ledger_transactions (batch_id);
CREATE INDEX ledger_transactions_tenant ON ledger_transactions (tenant_id, id);
CREATE UNIQUE INDEX ledger_transactions_reference ON ledger_transactions (tenant_id, kind, reference)
    WHERE reference <> '';

CREATE TABLE ledger_entries (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id bigint NOT NULL REFERENCES ledger_transactions,
    account_id     bigint NOT NULL REFERENCES ledger_accounts,
    amount_pico    numeric(38, 0) NOT NULL CHECK (amount_pico <> 0)
);
CREATE INDEX ledger_entries_transaction ON ledger_entries (transaction_id);
CREATE INDEX ledger_entries_account ON ledger_entries (account_id, id);

CREATE TRIGGER ledger_transactions_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION tg_is_final();
CREATE TRIGGER ledger_entries_final BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION tg_is_final();

CREATE FUNCTION tg_ledger_entry_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ledger_accounts SET balance_pico = balance_pico + NEW.amount_pico
    WHERE id = NEW.account_id;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balance AFTER INSERT ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION tg_ledger_entry_added();

CREATE FUNCTION tg_ledger_check() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong boolean;
BEGIN
    SELECT sum(e.amount_pico) <> 0 OR count(DISTINCT (a.tenant_id, a.currency)) <> 1
        OR bool_or(a.tenant_id <> t.tenant_id) INTO wrong
    FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
    JOIN ledger_transactions t ON t.id = e.transaction_id
    WHERE e.transaction_id = NEW.transaction_id;
    IF wrong THEN
        RAISE EXCEPTION 'ledger transaction % does not balance', NEW.transaction_id
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_balanced';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT ON ledger_entries
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tg_ledger_check();

CREATE FUNCTION tg_ledger_account(tenant uuid, account_kind text, money text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
BEGIN
    SELECT id INTO found FROM ledger_accounts
    WHERE tenant_id = tenant AND kind = account_kind AND currency = money;
    IF found IS NULL THEN
        INSERT INTO ledger_accounts (tenant_id, kind, currency) VALUES (tenant, account_kind, money)
        ON CONFLICT DO NOTHING;
        SELECT id INTO found FROM ledger_accounts
        WHERE tenant_id = tenant AND kind = account_kind AND currency = money;
    END IF;
    RETURN found;
END $$;

-- One writer of a tenant's credit at a time: a usage posting reads the balances it splits by, and
-- the operations for Redis of a tenant must be committed in the order of their ids.
CREATE FUNCTION tg_ledger_lock(tenant uuid) RETURNS void LANGUAGE sql AS
$$ SELECT pg_advisory_xact_lock(hashtextextended('tg_ledger ' || tenant::text, 0)) $$;

-- Usage: granted credit first, then paid, then receivable; against revenue.
CREATE FUNCTION tg_post_usage(batch bigint, tenant uuid, project uuid, money text, month date,
                              amount numeric) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    tx      bigint;
    rest    numeric := amount;
    account bigint;
    part    numeric;
    source  text;
BEGIN
    PERFORM tg_ledger_lock(tenant);
    INSERT INTO ledger_transactions (kind, tenant_id, project_id, batch_id, period)
    VALUES ('usage', tenant, project, batch, month) RETURNING id INTO tx;
    FOREACH source IN ARRAY ARRAY['granted', 'paid', 'receivable'] LOOP
        account := tg_ledger_account(tenant, source, money);
        part := rest;
        IF source <> 'receivable' THEN
            SELECT least(rest, greatest(-balance_pico, 0)) INTO part
            FROM ledger_accounts WHERE id = account;
        END IF;
        IF part > 0 THEN
            INSERT INTO ledger_entries (transaction_id, account_id, amount_pico)
            VALUES (tx, account, part);
            rest := rest - part;
        END IF;
    END LOOP;
    INSERT INTO ledger_entries (transaction_id, account_id, amount_pico)
    VALUES (tx, tg_ledger_account(tenant, 'revenue', money), -amount);
    RETURN tx;
END $$;

-- The outbox of Redis: a change of a prepaid balance, applied there once, in the order of ids.
CREATE TABLE balance_ops (
    id                    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id             uuid NOT NULL REFERENCES tenants,
    delta_nano            bigint NOT NULL,
    ledger_transaction_id bigint NOT NULL REFERENCES ledger_transactions,
    created_at            timestamptz NOT NULL DEFAULT now(),
    applied_at            timestamptz
);
CREATE INDEX balance_ops_open ON balance_ops (tenant_id, id) WHERE applied_at IS NULL;

-- A credit: granted against promotion expense, paid against cash.
CREATE FUNCTION tg_post_credit(tenant uuid, account_kind text, amount numeric, ref text)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    tx    bigint;
    money text;
BEGIN
    SELECT currency INTO STRICT money FROM tenants WHERE id = tenant;
    PERFORM tg_ledger_lock(tenant);
    INSERT INTO ledger_transactions (kind, tenant_id, reference)
    VALUES (CASE account_kind WHEN 'granted' THEN 'grant' ELSE 'payment' END, tenant, ref)
    RETURNING id INTO tx;
    INSERT INTO ledger_entries (transaction_id, account_id, amount_pico)
    VALUES (tx, tg_ledger_account(tenant,
                CASE account_kind WHEN 'granted' THEN 'promotion' ELSE 'cash' END, money), amount),
           (tx, tg_ledger_account(tenant, account_kind, money), -amount);
    INSERT INTO balance_ops (tenant_id, delta_nano, ledger_transaction_id)
    VALUES (tenant, floor(amount / 1000), tx);
    NOTIFY tollgate_balance;
    RETURN tx;
END $$;

-- What a tenant can still spend: its credit less what it owes.
CREATE VIEW tenant_balances AS
SELECT t.id AS tenant_id, t.currency,
       coalesce(-sum(a.balance_pico) FILTER (WHERE a.kind = 'granted'), 0) AS granted_pico,
       coalesce(-sum(a.balance_pico) FILTER (WHERE a.kind = 'paid'), 0) AS paid_pico,
       coalesce(sum(a.balance_pico) FILTER (WHERE a.kind = 'receivable'), 0) AS receivable_pico,
       coalesce(-sum(a.balance_pico) FILTER (WHERE a.kind IN ('granted', 'paid', 'receivable')), 0)
           AS available_pico
FROM tenants t LEFT JOIN ledger_accounts a ON a.tenant_id = t.id AND a.currency = t.currency
GROUP BY t.id;

-- Invoices. One row of settings for the seller; what a tenant is taxed.
CREATE TABLE invoice_settings (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seller       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(seller) = 'object'),
    series       text NOT NULL DEFAULT 'TG' CHECK (series ~ '^[A-Z0-9-]{1,16}$'),
    payment_days int NOT NULL DEFAULT 30 CHECK (payment_days BETWEEN 0 AND 365)
);
INSERT INTO invoice_settings DEFAULT VALUES;

CREATE TABLE tenant_taxes (
    tenant_id      uuid PRIMARY KEY REFERENCES tenants,
    tax_ppm        int NOT NULL CHECK (tax_ppm BETWEEN 0 AND 1000000), -- 200,000: 20 %
    reverse_charge boolean NOT NULL DEFAULT false CHECK (NOT reverse_charge OR tax_ppm = 0)
);

CREATE TABLE invoice_counters (
    series text PRIMARY KEY, -- with the year
    last   bigint NOT NULL
);

-- Usage is on the first invoice whose period ends after it and whose watermark has its batch:
-- what is shipped after an invoice was finalised is on the next one, as late.
CREATE TABLE invoices (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants,
    number          text NOT NULL UNIQUE,
    state           text NOT NULL DEFAULT 'finalised' CHECK (state IN ('finalised', 'paid', 'void')),
    period_start    date NOT NULL,
    period_end      date NOT NULL CHECK (period_end > period_start), -- the day after
    watermark_batch bigint NOT NULL,
    currency        text NOT NULL,
    decimals        int NOT NULL CHECK (decimals BETWEEN 0 AND 4),
    net_minor       bigint NOT NULL,
    tax_ppm         int NOT NULL,
    reverse_charge  boolean NOT NULL,
    tax_minor       bigint NOT NULL,
    total_minor     bigint NOT NULL CHECK (total_minor = net_minor + tax_minor),
    credit_minor    bigint NOT NULL, -- of the net, what credit has paid already
    due_minor       bigint NOT NULL CHECK (due_minor = total_minor - credit_minor),
    seller          jsonb NOT NULL,
    buyer           jsonb NOT NULL,
    issued_at       timestamptz NOT NULL DEFAULT now(),
    due_at          timestamptz NOT NULL,
    paid_at         timestamptz,
    voided_at       timestamptz
);
CREATE UNIQUE INDEX invoices_period ON invoices (tenant_id, period_start) WHERE state <> 'void';

CREATE TABLE invoice_lines (
    invoice_id   bigint NOT NULL REFERENCES invoices,
    position     int NOT NULL,
    project_id   uuid NOT NULL,
    project_name text NOT NULL,
    model        text NOT NULL,
    item         text NOT NULL CHECK (item IN ('input_miss', 'input_hit', 'output')),
    price_id     bigint NOT NULL,
    price_pico   bigint NOT NULL,
    tokens       numeric(38, 0) NOT NULL,
    amount_pico  numeric(38, 0) NOT NULL CHECK (amount_pico = tokens * price_pico),
    amount_minor bigint NOT NULL,
    period_start date NOT NULL, -- of the usage; before the invoice's own for late usage
    period_end   date NOT NULL,
    late         boolean NOT NULL,
    PRIMARY KEY (invoice_id, position)
);

CREATE FUNCTION tg_invoice_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NOT (OLD.state = 'finalised' AND NEW.state IN ('paid', 'void'))
        OR to_jsonb(NEW) - ARRAY['state', 'paid_at', 'voided_at']
            <> to_jsonb(OLD) - ARRAY['state', 'paid_at', 'voided_at'] THEN
        RAISE EXCEPTION 'a finalised invoice is frozen'
            USING ERRCODE = '23514', CONSTRAINT = 'invoice_frozen';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoices_frozen BEFORE UPDATE OR DELETE ON invoices
    FOR EACH ROW EXECUTE FUNCTION tg_invoice_changed();
CREATE TRIGGER invoice_lines_final BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_lines
    FOR EACH STATEMENT EXECUTE FUNCTION tg_is_final();
