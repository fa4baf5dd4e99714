-- What the database refuses whoever asks, the functions above included.

-- An escrow account is born with the ledger accounts that belong to nobody in particular.
CREATE FUNCTION open_ledger_accounts() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO ledger_accounts (org_id, escrow_account_id, ledger_account, normal_balance)
    SELECT NEW.org_id, NEW.escrow_account_id, code, normal_balance
    FROM (VALUES ('cash', 'DEBIT'), ('in_transit', 'DEBIT'), ('issuer_proceeds', 'CREDIT'),
                 ('distributable', 'CREDIT'), ('fees', 'CREDIT'), ('suspense', 'CREDIT')) AS chart (code, normal_balance);
    RETURN NULL;
END $$;
----
CREATE TRIGGER open_ledger_accounts AFTER INSERT ON escrow_accounts
FOR EACH ROW EXECUTE FUNCTION open_ledger_accounts();
----
-- An escrow account keeps its identity and currency for ever, and closes empty.
CREATE FUNCTION guard_escrow_account() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
    IF (NEW.org_id, NEW.escrow_account_id, NEW.currency, NEW.created_at)
        IS DISTINCT FROM (OLD.org_id, OLD.escrow_account_id, OLD.currency, OLD.created_at)
        OR NEW.entry_sequence < OLD.entry_sequence OR NEW.booked_at < OLD.booked_at
    THEN
        RAISE EXCEPTION 'an escrow account keeps its identity, currency and count' USING ERRCODE = '23514';
    END IF;
    IF NEW.status = OLD.status THEN
        RETURN NEW;
    END IF;
    IF (OLD.status, NEW.status) NOT IN (
        ('ACTIVE', 'FROZEN'), ('ACTIVE', 'LIQUIDATING'), ('ACTIVE', 'CLOSED'), ('FROZEN', 'ACTIVE'),
        ('LIQUIDATING', 'ACTIVE'), ('LIQUIDATING', 'FROZEN'), ('LIQUIDATING', 'CLOSED')
    ) THEN
        RAISE EXCEPTION 'an escrow account does not go from % to %', OLD.status, NEW.status USING ERRCODE = '23514';
    END IF;
    IF NEW.status = 'CLOSED' AND EXISTS (
        SELECT FROM ledger_accounts l
        WHERE l.org_id = NEW.org_id AND l.escrow_account_id = NEW.escrow_account_id
          AND (l.debits_posted <> l.credits_posted OR l.debits_pending <> l.credits_pending OR l.held <> 0)
    ) THEN
        RAISE EXCEPTION 'an escrow account closes empty' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
----
CREATE TRIGGER guard_escrow_account BEFORE UPDATE ON escrow_accounts
FOR EACH ROW EXECUTE FUNCTION guard_escrow_account();
----
-- A hold ends once, and is otherwise what it was.
CREATE FUNCTION guard_hold() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
AS $$
BEGIN
    IF OLD.status <> 'PLACED' OR (
        NEW.org_id, NEW.escrow_account_id, NEW.hold_id, NEW.ledger_account, NEW.amount_minor, NEW.reason,
        NEW.transaction_id, NEW.created_at
    ) IS DISTINCT FROM (
        OLD.org_id, OLD.escrow_account_id, OLD.hold_id, OLD.ledger_account, OLD.amount_minor, OLD.reason,
        OLD.transaction_id, OLD.created_at
    ) THEN
        RAISE EXCEPTION 'a hold ends once and keeps what it holds' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
----
CREATE TRIGGER guard_hold BEFORE UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION guard_hold();
----
-- At the commit, every journal entry has all its legs and balances in each layer. On the journal entry, not on the
-- legs: one without any is caught too.
CREATE FUNCTION check_journal_entry() RETURNS trigger LANGUAGE plpgsql
AS $$
DECLARE
    legs bigint;
    posted numeric;
    pending numeric;
BEGIN
    SELECT count(*),
           sum(CASE direction WHEN 'DEBIT' THEN amount_minor ELSE -amount_minor END) FILTER (WHERE layer = 'POSTED'),
           sum(CASE direction WHEN 'DEBIT' THEN amount_minor ELSE -amount_minor END) FILTER (WHERE layer = 'PENDING')
    INTO legs, posted, pending
    FROM (
        SELECT l.direction, l.layer, l.amount_minor
        FROM public.ledger_entries l
        WHERE l.org_id = NEW.org_id AND l.escrow_account_id = NEW.escrow_account_id
          AND l.journal_sequence = NEW.sequence
        -- Asks for the order of the one index that is right, before the planner knows the table.
        ORDER BY l.leg
        OFFSET 0
    ) l;
    IF legs <> NEW.n_legs OR posted <> 0 OR pending <> 0 THEN
        RAISE EXCEPTION 'journal entry % does not balance', NEW.journal_entry_id USING ERRCODE = '23514';
    END IF;
    RETURN NULL;
END $$;
----
CREATE CONSTRAINT TRIGGER check_journal_entry AFTER INSERT ON journal_entries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_journal_entry();
----
-- A leg belongs to a journal entry of this transaction and to an account that exists: one check for a whole batch.
CREATE FUNCTION check_legs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (
            SELECT DISTINCT org_id, escrow_account_id, journal_sequence, created_at, effective_at FROM legs
        ) legs
        LEFT JOIN LATERAL (
            SELECT j.created_xid, j.created_at, j.effective_at FROM journal_entries j
            WHERE j.org_id = legs.org_id AND j.escrow_account_id = legs.escrow_account_id
              AND j.sequence = legs.journal_sequence
            OFFSET 0
        ) entry ON true
        WHERE entry.created_xid IS DISTINCT FROM pg_current_xact_id()
           OR entry.created_at <> legs.created_at OR entry.effective_at <> legs.effective_at
    ) THEN
        RAISE EXCEPTION 'a leg is added to a journal entry of another transaction' USING ERRCODE = '23514';
    END IF;
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT org_id, escrow_account_id, ledger_account FROM legs) used
        LEFT JOIN LATERAL (
            SELECT l.entry_sequence FROM ledger_accounts l
            WHERE l.org_id = used.org_id AND l.escrow_account_id = used.escrow_account_id
              AND l.ledger_account = used.ledger_account
            OFFSET 0
        ) account ON true
        WHERE account.entry_sequence IS NULL
    ) THEN
        RAISE EXCEPTION 'a leg is on a ledger account that does not exist' USING ERRCODE = '23503';
    END IF;
    RETURN NULL;
END $$;
----
CREATE TRIGGER check_legs AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS legs
FOR EACH STATEMENT EXECUTE FUNCTION check_legs();
