-- What the database refuses whoever asks, its own functions included.

-- An escrow account is born with the ledger accounts that belong to nobody in particular.
CREATE OR REPLACE FUNCTION open_ledger_accounts() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
    INSERT INTO ledger_accounts (
        org_id, escrow_account_id, escrow_no, kind, of_party, normal_balance, may_be_overdrawn
    )
    SELECT NEW.org_id, NEW.escrow_account_id, NEW.escrow_no, k.kind, k.of_party, k.normal_balance, k.may_be_overdrawn
    FROM ledger_account_kinds k WHERE NOT k.of_party;
    RETURN NULL;
END $$;
----
CREATE OR REPLACE TRIGGER open_ledger_accounts AFTER INSERT ON escrow_accounts
FOR EACH ROW EXECUTE FUNCTION open_ledger_accounts();
----
-- An escrow account keeps its identity, currency and sponsor for ever, and never counts back. Every posting changes one,
-- so it is asked without a function.
CREATE OR REPLACE TRIGGER keep_identity BEFORE UPDATE ON escrow_accounts
FOR EACH ROW WHEN (
    NEW.entry_sequence < OLD.entry_sequence OR NEW.booked_at < OLD.booked_at
    OR (NEW.org_id, NEW.escrow_account_id, NEW.escrow_no, NEW.currency, NEW.sponsor_party_id, NEW.created_at)
    IS DISTINCT FROM
    (OLD.org_id, OLD.escrow_account_id, OLD.escrow_no, OLD.currency, OLD.sponsor_party_id, OLD.created_at)
) EXECUTE FUNCTION realco_refuse();
----
-- An escrow account closes empty, by what is seen of it: it has ledger accounts from its first day.
CREATE OR REPLACE FUNCTION refuse_closing() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
    IF NOT coalesce((
        SELECT bool_and(l.debits_posted = l.credits_posted AND l.debits_pending = l.credits_pending AND l.held = 0)
        FROM ledger_accounts l
        WHERE l.org_id = NEW.org_id AND l.escrow_account_id = NEW.escrow_account_id
    ), false) THEN
        RAISE EXCEPTION 'an escrow account closes empty' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
----
CREATE OR REPLACE TRIGGER refuse_closing BEFORE UPDATE OF status ON escrow_accounts
FOR EACH ROW WHEN (NEW.status = 'CLOSED') EXECUTE FUNCTION refuse_closing();
----
-- What people say of an escrow account is changed by whoever proves to be the service; a login is not enough. Else
-- anybody could alter one, and nobody could freeze it: nothing is done with what bears no seal. The book's functions
-- write none of these columns. One without a digest was not opened by the service, and is anybody's.
CREATE OR REPLACE TRIGGER prove_change BEFORE UPDATE OF display_name, custodian_name, custodian_account_last4,
    external_id, metadata, status, freezes, unfrozen_at, unfrozen_by, change_digest,
    change_proof, closed_at, closed_by, version, updated_at, seal
ON escrow_accounts FOR EACH ROW
WHEN (sha256(NEW.change_proof) IS DISTINCT FROM substr(OLD.change_digest, 5)) EXECUTE FUNCTION realco_refuse();
----
-- A hold ends once, and is otherwise what it was.
CREATE OR REPLACE FUNCTION guard_hold() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
AS $$
BEGIN
    IF OLD.status <> 'PLACED' OR (
        NEW.org_id, NEW.escrow_account_id, NEW.hold_id, NEW.kind, NEW.party_id, NEW.amount_minor, NEW.reason,
        NEW.transaction_id, NEW.created_at, NEW.replaces_hold_id
    ) IS DISTINCT FROM (
        OLD.org_id, OLD.escrow_account_id, OLD.hold_id, OLD.kind, OLD.party_id, OLD.amount_minor, OLD.reason,
        OLD.transaction_id, OLD.created_at, OLD.replaces_hold_id
    ) THEN
        RAISE EXCEPTION 'a hold ends once and keeps what it holds' USING ERRCODE = '23514';
    END IF;
    RETURN NEW;
END $$;
----
CREATE OR REPLACE TRIGGER guard_hold BEFORE UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION guard_hold();
